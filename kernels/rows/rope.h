// Rotary position embedding (Su et al. 2021, arXiv 2104.09864), half-split pairs (i, i + d/2) as in
// Hugging Face checkpoints.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// cos and sin of position * theta^(-2i/d), computed in double. Const after construction, shareable.
class RopeTable {
 public:
  RopeTable(int head_dim, double theta, int64_t max_positions);
  int head_dim() const { return head_dim_; }
  int64_t max_positions() const { return max_positions_; }
  const float* cos(int64_t position) const { return cos_.data() + position * (head_dim_ / 2); }
  const float* sin(int64_t position) const { return sin_.data() + position * (head_dim_ / 2); }

 private:
  int head_dim_;
  int64_t max_positions_;
  std::vector<float> cos_, sin_;  // [max_positions, head_dim / 2]
};

// Rotates x [rows, heads, head_dim] in place; row i stands at position + i. Row stride in floats.
LaunchStatus ApplyRope(float* x, int64_t rows, int heads, int64_t row_stride,
                       const RopeTable& table, int64_t position, const ExecutionContext& context);

}  // namespace lectern::kernels
