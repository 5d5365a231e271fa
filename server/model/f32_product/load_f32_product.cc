#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/plugin_library.h"
#include "server/model/f32_product/f32_product.h"

namespace lectern {
namespace {

absl::StatusOr<F32ProductFunction*> Load() {
  const absl::StatusOr<void*> function =
      LoadPluginFunction("liblectern_f32.so", "lectern_f32_product");
  if (!function.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "numerics: f32 needs ", function.status().message(),
        ". To build it, run cmake/setup torch, configure with -DLECTERN_BUILD_F32=ON and build the "
        "target lectern_f32"));
  }
  return reinterpret_cast<F32ProductFunction*>(*function);
}

}  // namespace

absl::StatusOr<F32ProductFunction*> LoadF32Product() {
  static const absl::StatusOr<F32ProductFunction*> function = Load();
  return function;
}

}  // namespace lectern
