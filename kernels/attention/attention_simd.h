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
// The larger; b where a is not a number.
inline Vec Max(Vec a, Vec b) {
#if defined(LECTERN_ISA_AVX512)
  return reinterpret_cast<Vec>(
      _mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(LECTERN_ISA_AVX2)
  return reinterpret_cast<Vec>(
      _mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return a > b ? a : b;
#endif
}
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

// Lanes are combined pairwise, halves first: the same order everywhere.
inline float Sum(Vec v) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#elif defined(LECTERN_ISA_AVX2)
  const __m256 x = reinterpret_cast<__m256>(v);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  float lane[kWidth];
  Store(lane, v);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
#endif
}
inline float LargestLane(Vec v) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_reduce_max_ps(reinterpret_cast<__m512>(v));
#elif defined(LECTERN_ISA_AVX2)
  const __m256 x = reinterpret_cast<__m256>(v);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
  float lane[kWidth];
  Store(lane, v);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  }
  return lane[0];
#endif
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

#if defined(LECTERN_ISA_AVX2)
// Byte i of entry m: the number of the i-th lane whose bit is set in m.
struct CompressTable {
  constexpr CompressTable() {
    for (int mask = 0; mask < 256; ++mask) {
      int n = 0;
      for (int lane = 0; lane < 8; ++lane) {
        if (mask >> lane & 1) order[mask][n++] = static_cast<uint8_t>(lane);
      }
    }
  }
  uint8_t order[256][8] = {};
};
constexpr CompressTable kCompressTable;

inline __m256i CompressOrder(uint32_t mask) {
  return _mm256_cvtepu8_epi32(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kCompressTable.order[mask])));
}
#endif

// Writes the lanes of `mask` densely to p (which has room for a whole vector); returns how many.
inline int CompressStore(float* p, uint32_t mask, Vec v) {
#if defined(LECTERN_ISA_AVX512)
  _mm512_storeu_ps(
      p, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), reinterpret_cast<__m512>(v)));
  return __builtin_popcount(mask);
#elif defined(LECTERN_ISA_AVX2)
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(reinterpret_cast<__m256>(v), CompressOrder(mask)));
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
#elif defined(LECTERN_ISA_AVX2)
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(p),
      _mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(v), CompressOrder(mask)));
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

// Of degree 5, the highest power's coefficient first.
inline Vec Polynomial(Vec x, const float (&coefficient)[6]) {
  Vec p = Set(coefficient[0]);
#pragma GCC unroll 5
  for (int i = 1; i < 6; ++i) p = p * x + Set(coefficient[i]);
  return p;
}

// 2^x for x <= 0: 2^n times a polynomial of degree 5 in x - n (relative error below 2.1e-7, of
// which 7.5e-8 is the least that degree allows). On AVX-512 n is floor(x), NaN gives NaN, and the
// result goes down to the smallest float and 0; elsewhere n is the nearest integer, and what is
// below -126, or NaN, gives 2^-126: a sum that begins with 1 does not see it.
inline Vec Exp2OrTiny(Vec x) {
#if defined(LECTERN_ISA_AVX512)
  constexpr int kDown = 0x09;  // round down, to integers, quietly; -inf leaves 0
  const Vec r = reinterpret_cast<Vec>(_mm512_reduce_ps(reinterpret_cast<__m512>(x), kDown));
  const Vec p = Polynomial(r, {1.877576658e-3f, 8.989340131e-3f, 5.582631802e-2f, 2.401536171e-1f,
                               6.931530732e-1f, 0.9999999251f});
  return reinterpret_cast<Vec>(
      _mm512_scalef_ps(reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(x)));
#else
  const Vec magic = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec bounded = Max(x, Set(-126.0f));
  const Vec shifted = bounded + magic;
  const Vec r = bounded - (shifted - magic);
  const Vec p = Polynomial(r, {1.327647198e-3f, 9.675541334e-3f, 5.550713274e-2f, 2.402211972e-1f,
                               6.931469671e-1f, 1.000000072f});
  // The low bits of `shifted` are n; the exponent of p, 0 or -1, bears it.
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(p) +
                               (reinterpret_cast<IntVec>(shifted) << 23));
#endif
}

// The same, but 0 below -126.
inline Vec Exp2(Vec x) {
#if defined(LECTERN_ISA_AVX512)
  return Exp2OrTiny(x);
#else
  const IntVec in_range = x >= Set(-126.0f);
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(Exp2OrTiny(x)) & in_range);
#endif
}
inline float Exp2Scalar(float x) { return Exp2(Set(x))[0]; }

constexpr float kLog2E = 1.44269504088896341f;

}  // namespace
}  // namespace lectern::kernels::internal
