// Symmetric quantisation of one row, written once and compiled per instruction-set class:
// everything here has internal linkage. Internal to kernels/.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace lectern::kernels {
namespace {

// A quad: four weights of a channel whose products with activations of 7 bits are added in 16 bits
// (int8_linear_avx2.cc): inputs 0, 1, 4, 5 and 2, 3, 6, 7 of any eight. Neither its positive nor
// its negative integers come to more than this; a channel that would be beyond is scaled down. With
// normally distributed weights, as of a rotated matrix, that is one channel in five, and adds 4 %
// to the mean square of the weights' rounding.
constexpr int32_t kInt8QuadSum = 258;

// Adding 1.5 * 2^23 leaves the integer nearest to a small float (ties to even) in the low bits.
constexpr float kRoundMagic = 12582912.0f;
constexpr int32_t kRoundMagicBits = 0x4B400000;
constexpr int32_t kFloatInfinityBits = 0x7F800000;
constexpr int32_t kFloatTinyBits = 0x0D800000;  // 2^-100: below it 127 / max would overflow

inline int32_t FloatBits(float value) {
  int32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// max|x| as the bits of a float: they order like the floats, and NaN is above infinity.
inline int32_t MaxMagnitudeBits(const float* x, int64_t k) {
  int32_t max_bits = 0;
  for (int64_t i = 0; i < k; ++i) {
    const int32_t bits = FloatBits(x[i]) & 0x7FFFFFFF;
    max_bits = bits > max_bits ? bits : max_bits;
  }
  return max_bits;
}

// Writes round(x * limit / max|x|) + offset and returns max|x| / limit. q may be any byte type.
template <typename Byte>
inline float QuantizeSymmetric(const float* x, int64_t k, float limit, int32_t offset, Byte* q) {
  const int32_t max_bits = MaxMagnitudeBits(x, k);
  if (max_bits >= kFloatInfinityBits || max_bits < kFloatTinyBits) {
    for (int64_t i = 0; i < k; ++i) q[i] = static_cast<Byte>(offset);
    return max_bits >= kFloatInfinityBits ? __builtin_nanf("") : 0.0f;
  }
  float max;
  __builtin_memcpy(&max, &max_bits, sizeof(max));
  const float inverse = limit / max;
  for (int64_t i = 0; i < k; ++i) {
    const float rounded = x[i] * inverse + kRoundMagic;
    q[i] = static_cast<Byte>(FloatBits(rounded) - kRoundMagicBits + offset);
  }
  return max / limit;
}

// The row of activations that a block function reads.
inline float QuantizeActivations(const float* x, int64_t k, float limit, int32_t offset,
                                 uint8_t* q) {
  for (int64_t i = k; i % 4 != 0; ++i) q[i] = 0;
  return QuantizeSymmetric(x, k, limit, offset, q);
}

// The largest sum of the positive integers, or of the magnitudes of the negative ones, among the
// quads of a channel.
inline int32_t LargestQuadSum(const int8_t* q, int64_t k) {
  int32_t largest = 0;
  for (int64_t first = 0; first < k; first += 8) {
    int8_t eight[8] = {};
    __builtin_memcpy(eight, q + first, k - first < 8 ? k - first : 8);
    for (int i = 0; i < 4; i += 2) {
      int32_t up = 0, down = 0;
      for (const int32_t value : {eight[i], eight[i + 1], eight[i + 4], eight[i + 5]}) {
        up += value > 0 ? value : 0;
        down -= value < 0 ? value : 0;
      }
      largest = up > largest ? up : largest;
      largest = down > largest ? down : largest;
    }
  }
  return largest;
}

// A channel of weights; writes the sum of its integers too.
inline float QuantizeWeights(const float* w, int64_t k, int8_t* q, int32_t* sum) {
  int32_t limit = 127;
  float scale = QuantizeSymmetric(w, k, 127.0f, 0, q);
  for (int32_t most = LargestQuadSum(q, k); most > kInt8QuadSum; most = LargestQuadSum(q, k)) {
    limit = limit * kInt8QuadSum / most;
    scale = QuantizeSymmetric(w, k, static_cast<float>(limit), 0, q);
  }
  int32_t total = 0;
  for (int64_t i = 0; i < k; ++i) total += q[i];
  *sum = total;
  return scale;
}

}  // namespace
}  // namespace lectern::kernels
