#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/plugin_library.h"
#include "server/model/f32_product/f32_product.h"

namespace lectern {
namespace {

// LibTorch's threads would spin for milliseconds when its product is done, on cores that the next
// part of a step wants. libgomp reads this when it is loaded, which is now.
void LimitSpinning() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", "3000", /*replace=*/0);
}

absl::StatusOr<F32ProductFunction*> Load() {
  LimitSpinning();
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
