#include "server/model/f32_product/row_product.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

constexpr int64_t kProductRows = 8;

}  // namespace

absl::Status MultiplyRows(F32ProductFunction* product, int threads, const float* x, int64_t rows,
                          int64_t in, const float* w, int64_t out, float* y, bool accumulate) {
  const auto multiply = [&](const float* from, float* to) {
    char error[512] = "";
    const int failed = product(from, kProductRows, in, w, out, to, accumulate ? 1 : 0, threads,
                               error, sizeof(error));
    return failed == 0 ? absl::OkStatus()
                       : absl::InternalError(absl::StrCat("matrix product: ", error));
  };
  int64_t row = 0;
  for (; row + kProductRows <= rows; row += kProductRows) {
    LECTERN_RETURN_IF_ERROR(multiply(x + row * in, y + row * out));
  }
  if (row == rows) return absl::OkStatus();
  AlignedBuffer<float> input(kProductRows * in), output(kProductRows * out);
  float* const filled = std::copy(x + row * in, x + rows * in, input.data());
  std::fill(filled, input.data() + kProductRows * in, 0.0f);
  if (accumulate) std::copy(y + row * out, y + rows * out, output.data());
  LECTERN_RETURN_IF_ERROR(multiply(input.data(), output.data()));
  std::copy_n(output.data(), (rows - row) * out, y + row * out);
  return absl::OkStatus();
}

}  // namespace lectern
