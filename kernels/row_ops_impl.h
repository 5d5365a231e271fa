// The loops of row_ops_table.h in vectors as wide as the registers of the class that this is
// compiled for. Everything has internal linkage; included by row_ops_<class>.cc only.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/row_ops_table.h"

namespace lectern::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Floats = float __attribute__((vector_size(kLanes * 4)));
using Ints = int32_t __attribute__((vector_size(kLanes * 4)));

#define LECTERN_INLINE inline __attribute__((always_inline))

// Up to kLanes elements; the lanes after them are zeros.
LECTERN_INLINE Floats Load(const float* x, int64_t count) {
  Floats v = {};
  if (count >= kLanes) {
    __builtin_memcpy(&v, x, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) v[i] = x[i];
  }
  return v;
}

LECTERN_INLINE void Store(float* x, Floats v, int64_t count) {
  if (count >= kLanes) {
    __builtin_memcpy(x, &v, sizeof(v));
  } else {
    for (int64_t i = 0; i < count; ++i) x[i] = v[i];
  }
}

LECTERN_INLINE float Sum(Floats v) {
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

void RmsNormRow(const float* x, int64_t cols, const float* gain, float eps, float* y) {
  Floats squares = {};
  for (int64_t i = 0; i < cols; i += kLanes) {
    const Floats v = Load(x + i, cols - i);
    squares += v * v;
  }
  const float inverse = 1.0f / __builtin_sqrtf(Sum(squares) / static_cast<float>(cols) + eps);
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int64_t count = cols - i;
    const Floats v = Load(x + i, count) * inverse;
    Store(y + i, gain == nullptr ? v : v * Load(gain + i, count), count);
  }
}

void Rotate(float* x, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t count = half - i;
    const Floats c = Load(cos + i, count), s = Load(sin + i, count);
    const Floats a = Load(x + i, count), b = Load(x + half + i, count);
    Store(x + i, a * c - b * s, count);
    Store(x + half + i, b * c + a * s, count);
  }
}

// e^x for x <= 0: 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2, and e^r by its series to r^7,
// whose next term is below 6e-9. ln 2 is split so that n * kLn2High is exact. 0 below the normal
// range.
LECTERN_INLINE Floats ExpOfNegative(Floats x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440054690583e-4f;
  constexpr float kLowest = -87.0f;
  const Ints underflow = x < kLowest;
  const Floats clamped = underflow ? Floats{} + kLowest : x;
  const Floats shifted = clamped * 1.44269504088896341f + kMagic;
  const Floats n = shifted - kMagic;
  const Floats r = clamped - n * kLn2High - n * kLn2Low;
  Floats p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `shifted` hold n: move n + 127 to where a float keeps its exponent.
  Ints bits;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits - 0x4B400000 + 127) << 23;
  Floats power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return underflow ? Floats{} : p * power;
}

void SiluMulRow(const float* gate, const float* up, int64_t cols, float* out) {
  for (int64_t i = 0; i < cols; i += kLanes) {
    const int64_t count = cols - i;
    const Floats g = Load(gate + i, count);
    const Ints negative = g < 0.0f;
    const Floats e = ExpOfNegative(negative ? g : -g);
    const Floats silu = g * (negative ? e : Floats{} + 1.0f) / (e + 1.0f);
    Store(out + i, silu * Load(up + i, count), count);
  }
}

// Lane i of the result is lane i ^ kDistance added to lane i, or, in the upper of the two, taken
// minus lane i.
template <int kDistance, int... kLane>
LECTERN_INLINE Floats ButterflyWithin(Floats v, std::integer_sequence<int, kLane...>) {
  const Floats sign = {((kLane & kDistance) != 0 ? -1.0f : 1.0f)...};
  return v * sign + __builtin_shufflevector(v, v, (kLane ^ kDistance)...);
}

void HadamardSmall(float* x, int64_t block, float scale) {
  for (int64_t distance = 1; distance < block; distance *= 2) {
    for (int64_t i = 0; i < block; ++i) {
      if ((i & distance) != 0) continue;
      const float a = x[i], b = x[i + distance];
      x[i] = a + b;
      x[i + distance] = a - b;
    }
  }
  for (int64_t i = 0; i < block; ++i) x[i] *= scale;
}

void Hadamard(float* x, int64_t block, float scale) {
  if (block < kLanes) return HadamardSmall(x, block, scale);
  constexpr std::make_integer_sequence<int, kLanes> lanes;
  for (int64_t i = 0; i < block; i += kLanes) {
    Floats v = Load(x + i, kLanes) * scale;
    v = ButterflyWithin<1>(v, lanes);
    v = ButterflyWithin<2>(v, lanes);
    if constexpr (kLanes > 4) v = ButterflyWithin<4>(v, lanes);
    if constexpr (kLanes > 8) v = ButterflyWithin<8>(v, lanes);
    Store(x + i, v, kLanes);
  }
  for (int64_t distance = kLanes; distance < block; distance *= 2) {
    for (int64_t base = 0; base < block; base += 2 * distance) {
      for (int64_t i = base; i < base + distance; i += kLanes) {
        const Floats a = Load(x + i, kLanes), b = Load(x + i + distance, kLanes);
        Store(x + i, a + b, kLanes);
        Store(x + i + distance, a - b, kLanes);
      }
    }
  }
}

constexpr RowOps kOps = {RmsNormRow, Rotate, SiluMulRow, Hadamard};

}  // namespace
}  // namespace lectern::kernels
