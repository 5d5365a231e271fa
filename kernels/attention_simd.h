// Vectors of floats for the attention kernels: one width per instruction set, the same code above
// it. Included only by the attention_*.cc file of an instruction set, after LECTERN_ISA_* is
// defined; everything has internal linkage.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(LECTERN_ISA_AVX512) || defined(LECTERN_ISA_AVX2)
#include <immintrin.h>
#endif

namespace lectern::kernels::internal {
namespace {

#if defined(LECTERN_ISA_AVX512)
constexpr int kWidth = 16;
#elif defined(LECTERN_ISA_AVX2)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t IntVec __attribute__((vector_size(kWidth * 4)));
typedef float VecUnaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef int32_t IntVecUnaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

constexpr float kInfinity = __builtin_inff();
constexpr float kLargest = 3.4028234663852886e38f;

inline Vec Load(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
inline void Store(float* p, Vec v) { *reinterpret_cast<VecUnaligned*>(p) = v; }
inline IntVec LoadInt(const int32_t* p) { return *reinterpret_cast<const IntVecUnaligned*>(p); }
inline Vec Set(float x) { return x - Vec{}; }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec ToFloat(IntVec v) { return __builtin_convertvector(v, Vec); }

inline Vec LoadInt8(const int8_t* p) {
#if defined(LECTERN_ISA_AVX512)
  return reinterpret_cast<Vec>(_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
#elif defined(LECTERN_ISA_AVX2)
  return reinterpret_cast<Vec>(_mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
#else
  return Vec{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
             static_cast<float>(p[3])};
#endif
}

// Lanes are added pairwise, halves first: the same order everywhere.
inline float Sum(Vec v) {
  float lane[kWidth];
  Store(lane, v);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}
inline float LargestLane(Vec v) {
  float lane[kWidth];
  Store(lane, v);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  }
  return lane[0];
}

// Bit i: a[i] > b[i]; likewise >=.
inline uint32_t MaskGreater(Vec a, Vec b) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GT_OQ);
#elif defined(LECTERN_ISA_AVX2)
  return _mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_GT_OQ));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kWidth; ++i) mask |= static_cast<uint32_t>(a[i] > b[i]) << i;
  return mask;
#endif
}
inline uint32_t MaskGreaterEqual(Vec a, Vec b) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GE_OQ);
#elif defined(LECTERN_ISA_AVX2)
  return _mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_GE_OQ));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kWidth; ++i) mask |= static_cast<uint32_t>(a[i] >= b[i]) << i;
  return mask;
#endif
}

// Writes the lanes of `mask` densely to p (which has room for a whole vector); returns how many.
inline int CompressStore(float* p, uint32_t mask, Vec v) {
#if defined(LECTERN_ISA_AVX512)
  _mm512_storeu_ps(
      p, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), reinterpret_cast<__m512>(v)));
  return __builtin_popcount(mask);
#else
  int n = 0;
  for (; mask != 0; mask &= mask - 1) p[n++] = v[__builtin_ctz(mask)];
  return n;
#endif
}
inline void CompressStoreInt(int32_t* p, uint32_t mask, IntVec v) {
#if defined(LECTERN_ISA_AVX512)
  _mm512_storeu_si512(
      p, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), reinterpret_cast<__m512i>(v)));
#else
  int n = 0;
  for (; mask != 0; mask &= mask - 1) p[n++] = v[__builtin_ctz(mask)];
#endif
}

inline IntVec LaneNumbers() {
  IntVec v;
  for (int i = 0; i < kWidth; ++i) v[i] = i;
  return v;
}

// e^x for x <= 0, within 2 ulp; 0 below -87. Range reduction to |r| <= ln2/2 and the Taylor
// polynomial of degree 7, whose remainder there is below 1e-8.
inline Vec Exp(Vec x) {
  const Vec low = Set(-87.0f);
  const IntVec tiny = x < low;
  const Vec clamped = tiny ? low : x;
  const Vec magic = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = (clamped * Set(1.44269504088896341f) + magic) - magic;
  const Vec r = (clamped - n * Set(0.693359375f)) - n * Set(-2.12194440e-4f);
  Vec p = Set(1.0f / 5040);
  p = p * r + Set(1.0f / 720);
  p = p * r + Set(1.0f / 120);
  p = p * r + Set(1.0f / 24);
  p = p * r + Set(1.0f / 6);
  p = p * r + Set(0.5f);
  p = p * r + Set(1.0f);
  p = p * r + Set(1.0f);
  const IntVec exponent = (__builtin_convertvector(n, IntVec) + 127) << 23;
  Vec scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  const Vec result = p * scale;
  return tiny ? Vec{} : result;
}
inline float ExpScalar(float x) { return Exp(Set(x))[0]; }

}  // namespace
}  // namespace lectern::kernels::internal
