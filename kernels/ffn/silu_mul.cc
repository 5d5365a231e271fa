#include "kernels/ffn/silu_mul.h"

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus SiluMul(const float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                     int64_t rows, int64_t cols, float* out, int64_t out_stride,
                     const ExecutionContext& context) {
  if (rows < 0 || cols < 1) return LaunchStatus::kBadShape;
  if (gate_stride < cols || up_stride < cols || out_stride < cols) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (gate == nullptr || up == nullptr || out == nullptr) return LaunchStatus::kBadArgument;
  const RowOps& ops = RowOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      ops.silu_mul(gate + row * gate_stride, up + row * up_stride, cols, out + row * out_stride);
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
