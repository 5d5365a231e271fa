// RoPE on its own, with the loop that RotateAndWriteKv uses.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/rows/rope.h"
#include "kernels/rows/row_ops.h"

namespace lectern::kernels {

// theta^(-2i/r) for i < r/2.
inline std::vector<double> InverseFrequencies(int rotated, double theta) {
  std::vector<double> inverse(rotated / 2);
  for (size_t i = 0; i < inverse.size(); ++i) {
    inverse[i] = std::pow(theta, -2.0 * static_cast<double>(i) / rotated);
  }
  return inverse;
}

// Rotates x [rows, heads, head_dim] in place; row i has position + i. Row stride in floats.
inline void ApplyRope(float* x, int64_t rows, int heads, int64_t row_stride, const RopeTable& table,
                      int64_t position, Isa isa) {
  const int head_dim = table.head_dim();
  for (int64_t row = 0; row < rows; ++row) {
    for (int head = 0; head < heads; ++head) {
      RowOpsOf(isa).rotate(x + row * row_stride + static_cast<int64_t>(head) * head_dim,
                           table.cos(position + row), table.sin(position + row), table.pairs());
    }
  }
}

}  // namespace lectern::kernels
