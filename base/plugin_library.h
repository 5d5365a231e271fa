// Loads libraries at run time: their one function, by name.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace lectern {

// Loads a function of `library`: a path, or the name of a file next to the program, in ../lib or in
// ../bin. The library is never unloaded. FAILED_PRECONDITION with the places that were searched and
// the reasons why it does not load.
absl::StatusOr<void*> LoadPluginFunction(const std::string& library, const char* function);

}  // namespace lectern
