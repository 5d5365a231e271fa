// Vectors of floats as wide as the registers of the class that this is compiled for, and what the
// row kernels share above them. Everything has internal linkage; included by the row_ops_*.cc and
// ffn_ops_*.cc of a class only (never by a file that runs on every CPU).
#pragma once

#include <cstdint>

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
using Bytes = int8_t __attribute__((vector_size(kLanes)));

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

LECTERN_INLINE Floats LoadWhole(const float* x) {
  Floats v;
  __builtin_memcpy(&v, x, sizeof(v));
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

// x / (1 + e^-y): silu for y = x.
LECTERN_INLINE Floats TimesSigmoid(Floats x, Floats y) {
  const Ints negative = y < 0.0f;
  const Floats e = ExpOfNegative(negative ? y : -y);
  return x * (negative ? e : Floats{} + 1.0f) / (e + 1.0f);
}

}  // namespace
}  // namespace lectern::kernels
