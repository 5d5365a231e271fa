#include "kernels/rows/rope.h"

#include <cmath>

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

}  // namespace lectern::kernels
