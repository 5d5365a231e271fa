// The table of rotary position embedding (Su et al. 2021, arXiv 2104.09864) for half-split pairs
// (i, i + r/2) of the first r channels of a head, as in Hugging Face checkpoints; the other
// channels are not rotated. RotateAndWriteKv (kernels/kv/kv_pages.h) applies it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace lectern::kernels {

// Holds factor * cos and factor * sin of position * inverse_frequencies[i], computed in double
// precision; i < pairs = r/2 <= head_dim / 2. Blocks of positions are computed when the first of
// them is asked for, because models promise far longer contexts than most texts need: the table of
// a million positions would take half a gigabyte. Any number of threads may share it.
class RopeTable {
 public:
  RopeTable(int head_dim, std::span<const double> inverse_frequencies, double factor,
            int64_t max_positions);
  int head_dim() const { return head_dim_; }
  int64_t pairs() const { return static_cast<int64_t>(inverse_frequencies_.size()); }
  int64_t max_positions() const { return max_positions_; }
  // Computes what [first, first + count) needs, so that cos and sin do not throw there. May throw
  // std::bad_alloc.
  void Prepare(int64_t first, int64_t count) const {
    for (int64_t row = 0; row < count; ++row) Row(first + row);
  }
  // [pairs]; position < max_positions.
  const float* cos(int64_t position) const { return Row(position); }
  const float* sin(int64_t position) const { return Row(position) + pairs(); }

 private:
  static constexpr int64_t kBlockPositions = 256;
  struct Block {
    std::atomic<float*> rows = nullptr;  // [kBlockPositions, 2, pairs], or not computed yet
    ~Block() { delete[] rows.load(std::memory_order_relaxed); }
  };

  // Cosines, then sines.
  const float* Row(int64_t position) const {
    const int64_t block = position / kBlockPositions;
    const float* rows = blocks_[block].rows.load(std::memory_order_acquire);
    if (rows == nullptr) rows = Compute(block);
    return rows + position % kBlockPositions * 2 * pairs();
  }
  const float* Compute(int64_t block) const;

  int head_dim_;
  std::vector<double> inverse_frequencies_;
  double factor_;
  int64_t max_positions_;
  std::unique_ptr<Block[]> blocks_;
};

}  // namespace lectern::kernels
