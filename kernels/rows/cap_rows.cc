#include "kernels/rows/cap_rows.h"

#include <cmath>

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus CapRows(float* x, int64_t rows, int64_t cols, float factor, float cap,
                     const ExecutionContext& context) {
  if (rows < 0 || cols <= 0) return LaunchStatus::kBadShape;
  if (!std::isfinite(factor) || !(cap >= 0) || !std::isfinite(cap)) {
    return LaunchStatus::kBadArgument;
  }
  if (rows > 0 && x == nullptr) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  const RowOps& ops = RowOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    ops.cap(x + range.begin * cols, (range.end - range.begin) * cols, factor, cap);
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
