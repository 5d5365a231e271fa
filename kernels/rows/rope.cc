#include "kernels/rows/rope.h"

#include <cmath>

#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

RopeTable::RopeTable(int head_dim, double theta, int64_t max_positions)
    : head_dim_(head_dim),
      max_positions_(max_positions),
      cos_(max_positions * (head_dim / 2)),
      sin_(cos_.size()) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; ++i) {
    const double frequency = std::pow(theta, -2.0 * i / head_dim);
    for (int64_t position = 0; position < max_positions; ++position) {
      const double angle = static_cast<double>(position) * frequency;
      cos_[position * half + i] = static_cast<float>(std::cos(angle));
      sin_[position * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

LaunchStatus ApplyRope(float* x, int64_t rows, int heads, int64_t row_stride,
                       const RopeTable& table, int64_t position, const ExecutionContext& context) {
  const int head_dim = table.head_dim();
  if (rows < 0 || heads < 1 || head_dim < 2 || head_dim % 2 != 0) return LaunchStatus::kBadShape;
  const int64_t width = static_cast<int64_t>(heads) * head_dim;
  if (row_stride < width) return LaunchStatus::kBadShape;
  if (position < 0 || position > table.max_positions() - rows) return LaunchStatus::kBadArgument;
  if (LaunchStatus status = CheckContext(context); !Ok(status)) return status;
  if (rows == 0) return LaunchStatus::kOk;
  if (x == nullptr) return LaunchStatus::kBadArgument;
  const RowOps& ops = RowOpsOf(context.isa);
  ForRows(rows, width, context, [&](ItemRange range) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      for (int head = 0; head < heads; ++head) {
        ops.rotate(x + row * row_stride + static_cast<int64_t>(head) * head_dim,
                   table.cos(position + row), table.sin(position + row), head_dim / 2);
      }
    }
  });
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
