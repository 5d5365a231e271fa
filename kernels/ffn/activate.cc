#include "kernels/ffn/activate.h"

#include "kernels/ffn/ffn_ops_table.h"
#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus Activate(FfnActivation activation, const float* z, int64_t z_stride, const float* up,
                      int64_t up_stride, int64_t rows, int64_t cols, float* out, int64_t out_stride,
                      const ExecutionContext& context) {
  if (rows < 0 || cols <= 0 || z_stride < cols || (up != nullptr && up_stride < cols) ||
      out_stride < cols) {
    return LaunchStatus::kBadShape;
  }
  if (rows > 0 && (z == nullptr || out == nullptr)) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  const FfnOps& ops = FfnOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      ops.activate(activation, z + row * z_stride, up == nullptr ? nullptr : up + row * up_stride,
                   cols, out + row * out_stride);
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
