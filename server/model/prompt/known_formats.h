// The table of known prompt formats, with the marks by which their chat templates are recognised.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "server/model/prompt/prompt_format.h"

namespace lectern {

// A chat template has this format if its text, as TemplateText() writes it, contains all of `with`
// and none of `without`, and no earlier row of the table matches.
struct KnownFormat {
  PromptFormat format;
  std::vector<std::string_view> with;  // empty: no template has it
  std::vector<std::string_view> without;
};

std::span<const KnownFormat> KnownFormats();

}  // namespace lectern
