#include "kernels/rows/add_bias.h"

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus AddBias(const float* bias, int64_t rows, int64_t cols, float* y,
                     const ExecutionContext& context) {
  if (rows < 0 || cols <= 0) return LaunchStatus::kBadShape;
  if (rows > 0 && (bias == nullptr || y == nullptr)) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      float* const out = y + row * cols;
      for (int64_t i = 0; i < cols; ++i) out[i] += bias[i];
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
