#include <dlfcn.h>

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/model/f32_product/f32_product.h"

namespace lectern {
namespace {

constexpr char kLibrary[] = "liblectern_f32.so";
constexpr char kFunction[] = "lectern_f32_product";

absl::StatusOr<F32ProductFunction*> Load() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string reasons;
  for (const char* folder : {".", "../lib", "../bin"}) {
    const std::filesystem::path path = program.parent_path() / folder / kLibrary;
    if (!std::filesystem::exists(path, error)) continue;
    // Never unloaded: LibTorch keeps threads.
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); library != nullptr) {
      if (void* function = dlsym(library, kFunction); function != nullptr) {
        return reinterpret_cast<F32ProductFunction*>(function);
      }
    }
    absl::StrAppend(&reasons, "; ", dlerror());
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "numerics: f32 needs ", kLibrary, " beside the program, in ../lib or in ../bin", reasons));
}

}  // namespace

absl::StatusOr<F32ProductFunction*> LoadF32Product() {
  static const absl::StatusOr<F32ProductFunction*> function = Load();
  return function;
}

}  // namespace lectern
