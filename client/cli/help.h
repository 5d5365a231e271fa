// What `lectern --help` says.
#pragma once

#include <string>
#include <string_view>

namespace lectern {

// Help of one command, or the general one when `command` is empty.
std::string HelpText(std::string_view command);

}  // namespace lectern
