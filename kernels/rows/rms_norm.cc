#include "kernels/rows/rms_norm.h"

#include <vector>

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

LaunchStatus RmsNorm(const float* x, int64_t rows, int64_t cols, const float* weight, float eps,
                     float* y, const ExecutionContext& context) {
  if (rows < 0 || cols < 1) return LaunchStatus::kBadShape;
  if (!(eps >= 0.0f)) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (x == nullptr || y == nullptr) return LaunchStatus::kBadArgument;
  const RowOps& ops = RowOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      ops.rms_norm(x + row * cols, cols, weight, eps, y + row * cols);
    }
  });
  return LaunchStatus::kOk;
}

LaunchStatus RmsNormAdd(const float* a, int64_t rows, int64_t cols, const float* weight, float eps,
                        float factor, float* x, const ExecutionContext& context) {
  if (rows < 0 || cols < 1) return LaunchStatus::kBadShape;
  if (!(eps >= 0.0f)) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (a == nullptr || x == nullptr || weight == nullptr) return LaunchStatus::kBadArgument;
  const RowOps& ops = RowOpsOf(context.isa);
  ForRows(rows, cols, context, [&](ItemRange range) {
    static thread_local std::vector<float> normed;
    if (normed.size() < static_cast<size_t>(cols)) normed.resize(cols);
    for (int64_t row = range.begin; row < range.end; ++row) {
      ops.rms_norm(a + row * cols, cols, weight, eps, normed.data());
      float* const out = x + row * cols;
      for (int64_t i = 0; i < cols; ++i) out[i] += factor * normed[i];
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
