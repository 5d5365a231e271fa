#include "base/plugin_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> PlacesOf(const std::string& library) {
  if (library.find('/') != std::string::npos) return {library};
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  return {folder / library, folder / "../lib" / library, folder / "../bin" / library};
}

}  // namespace

absl::StatusOr<void*> LoadPluginFunction(const std::string& library, const char* function) {
  std::string reasons;
  std::error_code error;
  for (const fs::path& path : PlacesOf(library)) {
    if (!fs::exists(path, error)) continue;
    if (void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); opened != nullptr) {
      if (void* found = dlsym(opened, function); found != nullptr) return found;
    }
    absl::StrAppend(&reasons, "; ", dlerror());
  }
  return absl::FailedPreconditionError(
      absl::StrCat(library, " next to the program, in ../lib or in ../bin", reasons));
}

}  // namespace lectern
