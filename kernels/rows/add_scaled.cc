#include "kernels/rows/add_scaled.h"

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus AddScaled(const float* x, int64_t rows, int64_t cols, float factor, float* y,
                       const ExecutionContext& context) {
  if (rows < 0 || cols <= 0) return LaunchStatus::kBadShape;
  if (rows > 0 && (x == nullptr || y == nullptr)) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t i = range.begin * cols; i < range.end * cols; ++i) y[i] += factor * x[i];
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
