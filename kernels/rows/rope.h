// The table of rotary position embedding (Su et al. 2021, arXiv 2104.09864) for half-split pairs
// (i, i + d/2), as in Hugging Face checkpoints. RotateAndWriteKv (kernels/kv/kv_pages.h) applies
// it.
#pragma once

#include <cstdint>
#include <vector>

namespace lectern::kernels {

// Holds cos and sin of position * theta^(-2i/d), computed in double precision. Immutable, so it may
// be shared between threads.
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

}  // namespace lectern::kernels
