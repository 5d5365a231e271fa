#include "kernels/rows/layer_norm.h"

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus LayerNorm(const float* x, int64_t rows, int64_t cols, const float* weight,
                       const float* bias, float eps, float* y, const ExecutionContext& context) {
  if (rows < 0 || cols < 1) return LaunchStatus::kBadShape;
  if (!(eps >= 0.0f) || weight == nullptr || bias == nullptr) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (x == nullptr || y == nullptr) return LaunchStatus::kBadArgument;
  const RowOps& ops = RowOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      ops.layer_norm(x + row * cols, cols, weight, bias, eps, y + row * cols);
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
