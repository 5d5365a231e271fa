#include "kernels/rows/rope.h"

#include <cmath>

namespace lectern::kernels {

RopeTable::RopeTable(int head_dim, std::span<const double> inverse_frequencies, double factor,
                     int64_t max_positions)
    : head_dim_(head_dim),
      pairs_(static_cast<int64_t>(inverse_frequencies.size())),
      max_positions_(max_positions),
      cos_(max_positions * pairs_),
      sin_(cos_.size()) {
  for (int64_t i = 0; i < pairs_; ++i) {
    for (int64_t position = 0; position < max_positions; ++position) {
      const double angle = static_cast<double>(position) * inverse_frequencies[i];
      cos_[position * pairs_ + i] = static_cast<float>(factor * std::cos(angle));
      sin_[position * pairs_ + i] = static_cast<float>(factor * std::sin(angle));
    }
  }
}

}  // namespace lectern::kernels
