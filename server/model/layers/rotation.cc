#include "server/model/layers/rotation.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/rows/hadamard.h"

namespace lectern {
namespace {

// Sum and difference of two blocks of n floats.
void Butterfly(float* a, float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float sum = a[i] + b[i];
    const float difference = a[i] - b[i];
    a[i] = sum;
    b[i] = difference;
  }
}

// The stages of a Walsh-Hadamard transform over `blocks` (a power of two) blocks of `width` floats,
// without the scale.
void BlockStages(float* x, int64_t blocks, int64_t width) {
  for (int64_t half = 1; half < blocks; half *= 2) {
    for (int64_t first = 0; first < blocks; first += 2 * half) {
      Butterfly(x + first * width, x + (first + half) * width, half * width);
    }
  }
}

// SplitMix64 (Steele et al. 2014): a fixed, well mixed bit per channel.
bool SignBit(uint64_t index) {
  uint64_t z = (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return ((z ^ (z >> 31)) & 1) != 0;
}

}  // namespace

int64_t PowerOfTwoFactor(int64_t n) { return n & -n; }

Rotation::Rotation(int64_t n) : odd_(n / PowerOfTwoFactor(n)), power_(PowerOfTwoFactor(n)) {
  signs_.resize(n);
  for (int64_t i = 0; i < n; ++i) signs_[i] = SignBit(i) ? -1.0f : 1.0f;
  dct_.resize(odd_ * odd_);
  for (int64_t b = 0; b < odd_; ++b) {
    const double norm = std::sqrt((b == 0 ? 1.0 : 2.0) / static_cast<double>(odd_));
    for (int64_t a = 0; a < odd_; ++a) {
      const double angle = std::numbers::pi * (2 * a + 1) * b / (2.0 * static_cast<double>(odd_));
      dct_[b * odd_ + a] = static_cast<float>(norm * std::cos(angle));
    }
  }
}

void Rotation::ApplyToRows(float* x, int64_t rows, float* scratch) const {
  const int64_t n = size();
  for (int64_t row = 0; row < rows; ++row) {
    float* values = x + row * n;
    for (int64_t i = 0; i < n; ++i) scratch[i] = values[i] * signs_[i];
    std::fill_n(values, n, 0.0f);
    for (int64_t b = 0; b < odd_; ++b) {
      float* out = values + b * power_;
      for (int64_t a = 0; a < odd_; ++a) {
        const float weight = dct_[b * odd_ + a];
        const float* in = scratch + a * power_;
        for (int64_t i = 0; i < power_; ++i) out[i] += weight * in[i];
      }
    }
  }
  // The shapes are right by construction, so the kernel has no reason to refuse.
  (void)kernels::BlockHadamard(x, rows, n, n, power_, kernels::ExecutionContext{});
}

void Rotation::ApplyToColumns(float* x, int64_t cols, float* scratch) const {
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(power_)));
  for (int64_t i = 0; i < size(); ++i) {
    for (int64_t c = 0; c < cols; ++c) x[i * cols + c] *= scale * signs_[i];
  }
  const int64_t block = power_ * cols;
  for (int64_t j = 0; j < power_; ++j) {
    float* column = x + j * cols;  // rows j, j + power, j + 2 power, ...
    for (int64_t a = 0; a < odd_; ++a) std::copy_n(column + a * block, cols, scratch + a * cols);
    for (int64_t b = 0; b < odd_; ++b) {
      float* out = column + b * block;
      std::fill_n(out, cols, 0.0f);
      for (int64_t a = 0; a < odd_; ++a) {
        const float weight = dct_[b * odd_ + a];
        const float* in = scratch + a * cols;
        for (int64_t c = 0; c < cols; ++c) out[c] += weight * in[c];
      }
    }
  }
  for (int64_t b = 0; b < odd_; ++b) BlockStages(x + b * block, power_, cols);
}

}  // namespace lectern
