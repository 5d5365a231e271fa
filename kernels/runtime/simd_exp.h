// Exponentials on the vectors of simd.h. There are two, because callers need different errors and
// ranges, and the bits of results depend on which is used: Exp2OrTiny() is the cheaper one, for
// softmax sums that begin with 1; ExpOfNegative() is accurate to the last place, for activations.
// Include it as simd.h.
#pragma once

#include "kernels/runtime/simd.h"

namespace lectern::kernels {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

// A polynomial of degree 5; the coefficient of the highest power comes first.
inline Floats Polynomial(Floats x, const float (&coefficient)[6]) {
  Floats p = Set(coefficient[0]);
#pragma GCC unroll 5
  for (int i = 1; i < 6; ++i) p = p * x + Set(coefficient[i]);
  return p;
}

// 2^x for x <= 0: 2^n times a polynomial of degree 5 in x - n (relative error below 2.1e-7, of
// which 7.5e-8 is the least that degree allows). On AVX-512 n is floor(x), NaN gives NaN, and the
// result goes down to the smallest float and 0. Elsewhere n is the nearest integer, and NaN or
// anything below -126 gives 2^-126, which a sum that begins with 1 does not see.
inline Floats Exp2OrTiny(Floats x) {
#if defined(LECTERN_ISA_AVX512)
  constexpr int kDown = 0x09;  // round down, to integers, quietly; -inf leaves 0
  const Floats r = reinterpret_cast<Floats>(_mm512_reduce_ps(reinterpret_cast<__m512>(x), kDown));
  const Floats p = Polynomial(r, {1.877576658e-3f, 8.989340131e-3f, 5.582631802e-2f,
                                  2.401536171e-1f, 6.931530732e-1f, 0.9999999251f});
  return reinterpret_cast<Floats>(
      _mm512_scalef_ps(reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(x)));
#else
  const Floats magic = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats bounded = Max(x, Set(-126.0f));
  const Floats shifted = bounded + magic;
  const Floats r = bounded - (shifted - magic);
  const Floats p = Polynomial(r, {1.327647198e-3f, 9.675541334e-3f, 5.550713274e-2f,
                                  2.402211972e-1f, 6.931469671e-1f, 1.000000072f});
  // The low bits of `shifted` hold n; it is added to the exponent of p, which is 0 or -1.
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) +
                                  (reinterpret_cast<Ints>(shifted) << 23));
#endif
}

// 2^x for x <= 0, and 0 below -126.
inline Floats Exp2(Floats x) {
#if defined(LECTERN_ISA_AVX512)
  return Exp2OrTiny(x);
#else
  const Ints in_range = x >= Set(-126.0f);
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(Exp2OrTiny(x)) & in_range);
#endif
}
inline float Exp2Scalar(float x) { return Exp2(Set(x))[0]; }

// e^x for x <= 0: 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2, and e^r by its series to r^7,
// whose next term is below 6e-9. ln 2 is split so that n * kLn2High is exact. The result is 0 below
// the normal range.
LECTERN_INLINE Floats ExpOfNegative(Floats x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440054690583e-4f;
  constexpr float kLowest = -87.0f;
  const Ints underflow = x < kLowest;
  const Floats clamped = underflow ? Floats{} + kLowest : x;
  const Floats shifted = clamped * kLog2E + kMagic;
  const Floats n = shifted - kMagic;
  const Floats r = clamped - n * kLn2High - n * kLn2Low;
  Floats p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `shifted` hold n; n + 127 moves to where a float keeps its exponent.
  Ints bits;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits - 0x4B400000 + 127) << 23;
  Floats power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return underflow ? Floats{} : p * power;
}

// x / (1 + e^-y), which is silu(x) for y = x.
LECTERN_INLINE Floats TimesSigmoid(Floats x, Floats y) {
  const Ints negative = y < 0.0f;
  const Floats e = ExpOfNegative(negative ? y : -y);
  return x * (negative ? e : Floats{} + 1.0f) / (e + 1.0f);
}

// tanh(x): its series to x^11 near 0, whose next term is below 1.3e-8 of the result there, and
// (1 - e) / (1 + e) with e = e^(-2 |x|) elsewhere.
LECTERN_INLINE Floats Tanh(Floats x) {
  constexpr float kNear = 0.35f;
  const Ints negative = x < 0.0f;
  const Floats magnitude = negative ? -x : x;
  const Floats square = magnitude * magnitude;
  Floats p = square * (-1382.0f / 155925) + 62.0f / 2835;
  p = p * square - 17.0f / 315;
  p = p * square + 2.0f / 15;
  p = p * square - 1.0f / 3;
  p = p * square * magnitude + magnitude;
  const Floats e = ExpOfNegative(magnitude * -2.0f);
  const Floats far = (1.0f - e) / (e + 1.0f);
  const Floats result = magnitude < kNear ? p : far;
  return negative ? -result : result;
}

}  // namespace
}  // namespace lectern::kernels
