#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/model/f32_product/f32_product.h"
#include "server/model/plugin_library.h"

namespace lectern {
namespace {

absl::StatusOr<F32ProductFunction*> Load() {
  const absl::StatusOr<void*> function =
      LoadPluginFunction("liblectern_f32.so", "lectern_f32_product");
  if (!function.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("numerics: f32 needs ", function.status().message()));
  }
  return reinterpret_cast<F32ProductFunction*>(*function);
}

}  // namespace

absl::StatusOr<F32ProductFunction*> LoadF32Product() {
  static const absl::StatusOr<F32ProductFunction*> function = Load();
  return function;
}

}  // namespace lectern
