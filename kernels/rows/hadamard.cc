#include "kernels/rows/hadamard.h"

#include <cmath>

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

float HadamardScale(int64_t block) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(block)));
}

LaunchStatus BlockHadamard(float* x, int64_t rows, int64_t cols, int64_t row_stride, int64_t block,
                           const ExecutionContext& context) {
  if (rows < 0 || cols < 1 || row_stride < cols) return LaunchStatus::kBadShape;
  if (block < 1 || (block & (block - 1)) != 0 || cols % block != 0) return LaunchStatus::kBadShape;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (x == nullptr) return LaunchStatus::kBadArgument;
  const RowOps& ops = RowOpsOf(context.isa);
  const float scale = HadamardScale(block);
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      for (int64_t i = 0; i < cols; i += block)
        ops.hadamard(x + row * row_stride + i, block, scale);
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
