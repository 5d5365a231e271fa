// The table of rotary position embedding (Su et al. 2021, arXiv 2104.09864) for half-split pairs
// (i, i + r/2) of the first r channels of a head, as in Hugging Face checkpoints; the other
// channels are not rotated. RotateAndWriteKv (kernels/kv/kv_pages.h) applies it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lectern::kernels {

// Holds factor * cos and factor * sin of position * inverse_frequencies[i], computed in double
// precision; i < pairs = r/2 <= head_dim / 2. Immutable, so it may be shared between threads.
class RopeTable {
 public:
  RopeTable(int head_dim, std::span<const double> inverse_frequencies, double factor,
            int64_t max_positions);
  int head_dim() const { return head_dim_; }
  int64_t pairs() const { return pairs_; }
  int64_t max_positions() const { return max_positions_; }
  const float* cos(int64_t position) const { return cos_.data() + position * pairs_; }
  const float* sin(int64_t position) const { return sin_.data() + position * pairs_; }

 private:
  int head_dim_;
  int64_t pairs_;
  int64_t max_positions_;
  std::vector<float> cos_, sin_;  // [max_positions, pairs]
};

}  // namespace lectern::kernels
