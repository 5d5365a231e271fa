// The orthogonal matrix that rotates the residual stream of an int8 decoder, so that no channel
// stands out and one scale per row is enough (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456,
// section 4: the matrix cancels between the layers that write to the stream and those that read it,
// and RMSNorm without weights commutes with it).
//
//   Q = diag(signs) (C kron H),   n = odd * 2^p
// C is the orthonormal DCT-II matrix of size `odd`, H the orthonormal Walsh-Hadamard matrix of size
// 2^p. The signs keep the mean of a vector, which both matrices would put into one channel, from
// becoming an outlier.
#pragma once

#include <cstdint>
#include <vector>

namespace lectern {

// The largest power of two that divides n; n >= 1.
int64_t PowerOfTwoFactor(int64_t n);

// Const after construction, thread-safe. The caller brings the scratch memory.
class Rotation {
 public:
  explicit Rotation(int64_t n);

  int64_t size() const { return odd_ * power_; }
  int64_t odd() const { return odd_; }

  // x [rows, n] = x Q, in place, row by row; scratch [n].
  void ApplyToRows(float* x, int64_t rows, float* scratch) const;
  // x [n, cols] = Q^T x, in place; scratch [odd, cols].
  void ApplyToColumns(float* x, int64_t cols, float* scratch) const;

 private:
  int64_t odd_;
  int64_t power_;
  std::vector<float> signs_;  // [n], +1 or -1
  std::vector<float> dct_;    // [odd, odd]: out[b] = sum_a dct[b, a] in[a]
};

}  // namespace lectern
