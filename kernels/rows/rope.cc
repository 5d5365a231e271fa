#include "kernels/rows/rope.h"

#include <cmath>

namespace lectern::kernels {

RopeTable::RopeTable(int head_dim, std::span<const double> inverse_frequencies, double factor,
                     int64_t max_positions)
    : head_dim_(head_dim),
      inverse_frequencies_(inverse_frequencies.begin(), inverse_frequencies.end()),
      factor_(factor),
      max_positions_(max_positions),
      blocks_(new Block[(max_positions + kBlockPositions - 1) / kBlockPositions]) {}

const float* RopeTable::Compute(int64_t block) const {
  const int64_t count = pairs();
  std::unique_ptr<float[]> rows(new float[kBlockPositions * 2 * count]);
  for (int64_t row = 0; row < kBlockPositions; ++row) {
    const auto position = static_cast<double>(block * kBlockPositions + row);
    float* const cos = rows.get() + row * 2 * count;
    for (int64_t i = 0; i < count; ++i) {
      const double angle = position * inverse_frequencies_[i];
      cos[i] = static_cast<float>(factor_ * std::cos(angle));
      cos[count + i] = static_cast<float>(factor_ * std::sin(angle));
    }
  }
  // Another thread may have computed the block meanwhile; its rows are equal.
  float* expected = nullptr;
  if (blocks_[block].rows.compare_exchange_strong(expected, rows.get(),
                                                  std::memory_order_acq_rel)) {
    return rows.release();
  }
  return expected;
}

}  // namespace lectern::kernels
