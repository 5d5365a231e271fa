// Libraries that programs load while they run: their one function, by name.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lectern {

// `library` is a path, or the name of a file beside the program, in ../lib or in ../bin. It is
// never unloaded. FAILED_PRECONDITION, telling where it was looked for and why it does not load.
absl::StatusOr<void*> LoadPluginFunction(const std::string& library, const char* function);

}  // namespace lectern
