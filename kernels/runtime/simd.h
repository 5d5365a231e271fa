// Vectors of floats as wide as the registers of the instruction set that this is compiled for. The
// one wrapper of the attention, row and feed-forward kernels; tiles that need one particular
// instruction are written with intrinsics next to their kernel.
//
// Include it only from files that are compiled once for each instruction set
// (kernels/CMakeLists.txt) and from headers that only those include: everything has internal
// linkage, so that code for AVX-512 cannot become the copy that the linker keeps for every CPU
// (isa_objects_test).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#define LECTERN_ISA_AVX512 1
#elif defined(__AVX2__)
#define LECTERN_ISA_AVX2 1
#endif

#if defined(LECTERN_ISA_AVX512) || defined(LECTERN_ISA_AVX2)
#include <immintrin.h>
#endif

#define LECTERN_INLINE inline __attribute__((always_inline))

namespace lectern::kernels {
namespace {

#if defined(LECTERN_ISA_AVX512)
constexpr int kLanes = 16;
#elif defined(LECTERN_ISA_AVX2)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Floats = float __attribute__((vector_size(kLanes * 4)));
using Ints = int32_t __attribute__((vector_size(kLanes * 4)));

constexpr float kInfinity = __builtin_inff();
constexpr float kLargest = 3.4028234663852886e38f;  // finite

// Whole vectors at any address of floats.
typedef float UnalignedFloats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t UnalignedInts __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
inline Floats Load(const float* x) { return *reinterpret_cast<const UnalignedFloats*>(x); }
inline void Store(float* x, Floats v) { *reinterpret_cast<UnalignedFloats*>(x) = v; }

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

inline Ints LoadInts(const int32_t* x) { return *reinterpret_cast<const UnalignedInts*>(x); }

// kLanes int8 numbers as floats.
inline Floats LoadInt8(const int8_t* p) {
#if defined(LECTERN_ISA_AVX512)
  return reinterpret_cast<Floats>(_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
#elif defined(LECTERN_ISA_AVX2)
  return reinterpret_cast<Floats>(_mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))));
#else
  return Floats{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
                static_cast<float>(p[3])};
#endif
}

inline Floats Set(float x) { return x - Floats{}; }
inline Floats ToFloats(Ints v) { return __builtin_convertvector(v, Floats); }

inline Ints LaneNumbers() {
  Ints v;
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

// The larger in each lane; b where a is not a number.
inline Floats Max(Floats a, Floats b) {
#if defined(LECTERN_ISA_AVX512)
  return reinterpret_cast<Floats>(
      _mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif defined(LECTERN_ISA_AVX2)
  return reinterpret_cast<Floats>(
      _mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
  return a > b ? a : b;
#endif
}

// The sum of the lanes from the first to the last, which is the order of the row and feed-forward
// kernels. Kept apart from SumPairwise() because rounding depends on the order.
LECTERN_INLINE float SumInOrder(Floats v) {
  float sum = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

// The sum of the lanes, halves first, which is the order of the attention kernels.
inline float SumPairwise(Floats v) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#elif defined(LECTERN_ISA_AVX2)
  const __m256 x = reinterpret_cast<__m256>(v);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  float lane[kLanes];
  Store(lane, v);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
#endif
}

inline float LargestLane(Floats v) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_reduce_max_ps(reinterpret_cast<__m512>(v));
#elif defined(LECTERN_ISA_AVX2)
  const __m256 x = reinterpret_cast<__m256>(v);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
  float lane[kLanes];
  Store(lane, v);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  }
  return lane[0];
#endif
}

// Bit i is set where a[i] > b[i].
inline uint32_t MaskGreater(Floats a, Floats b) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GT_OQ);
#elif defined(LECTERN_ISA_AVX2)
  return _mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_GT_OQ));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint32_t>(a[i] > b[i]) << i;
  return mask;
#endif
}

// Bit i is set where a[i] >= b[i].
inline uint32_t MaskGreaterEqual(Floats a, Floats b) {
#if defined(LECTERN_ISA_AVX512)
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), _CMP_GE_OQ);
#elif defined(LECTERN_ISA_AVX2)
  return _mm256_movemask_ps(
      _mm256_cmp_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), _CMP_GE_OQ));
#else
  uint32_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint32_t>(a[i] >= b[i]) << i;
  return mask;
#endif
}

#if defined(LECTERN_ISA_AVX2)
// Byte i of entry m is the number of the i-th lane whose bit is set in m.
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

// Writes the lanes of `mask` densely to p, which has room for a whole vector, and returns their
// number.
inline int CompressStore(float* p, uint32_t mask, Floats v) {
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
inline void CompressStoreInts(int32_t* p, uint32_t mask, Ints v) {
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

// Integers in the order of the floats, for bisection, and back.
inline int32_t OrderedKey(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
inline float FromOrderedKey(int32_t key) {
  const int32_t bits = key >= 0 ? key : key ^ 0x7fffffff;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

}  // namespace
}  // namespace lectern::kernels
