// Dense attention for one instruction set, a span of keys at a time: scores of the span, then, page
// by page, exponentials and the weighted values. Include it as simd.h.
#pragma once

#include "kernels/attention/attention_scores.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_values.h"
#include "kernels/runtime/simd_exp.h"

namespace lectern::kernels::internal {
namespace {

// Unpacks the values of a page to floats in scratch. Not inlined: inside DenseScan its pointers
// were spilled and reloaded for every vector.
__attribute__((noinline)) void LoadValues(const AttentionTask& task, const PageView& page,
                                          int64_t tokens, float* values) {
  const int d = task.args->layout.value_dim;
  if (task.args->layout.type == KvType::kF32) {
    std::memcpy(values, page.Get<float>(page.at.values), sizeof(float) * d * tokens);
  } else {
    const int8_t* rows = page.Get<int8_t>(page.at.values);
    const float* scale = page.Get<float>(page.at.value_scale);
    for (int64_t j = 0; j < tokens; ++j) {
      int c = 0;
      for (; c + kLanes <= d; c += kLanes)
        Store(values + j * d + c, LoadInt8(rows + j * d + c) * Set(scale[j]));
      for (; c < d; ++c) values[j * d + c] = scale[j] * static_cast<float>(rows[j * d + c]);
    }
  }
  // Slots after the last token may hold anything; their weight is 0, but 0 * NaN is not.
  for (int64_t i = tokens * d; i < static_cast<int64_t>(kPageTokens) * d; ++i) values[i] = 0;
}

// out[q] += sum over 64 keys of weight[q][key] * values[key], for kQueries queries.
template <int kQueries>
inline void WeighValues(const float* const* weight, const float* values, int d, float* const* out) {
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  int c = 0;
  for (; c + kVectors * kLanes <= d; c += kVectors * kLanes) {
    Floats acc[kQueries][kVectors];
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[q][v] = Load(out[q] + c + v * kLanes);
    }
    for (int j = 0; j < kPageTokens; ++j) {
      Floats x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = Load(values + j * d + c + v * kLanes);
#pragma GCC unroll 4
      for (int q = 0; q < kQueries; ++q) {
        const Floats w = Set(weight[q][j]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) acc[q][v] += w * x[v];
      }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) Store(out[q] + c + v * kLanes, acc[q][v]);
    }
  }
  for (; c < d; ++c) {
    for (int q = 0; q < kQueries; ++q) {
      float sum = out[q][c];
      for (int j = 0; j < kPageTokens; ++j) sum += weight[q][j] * values[j * d + c];
      out[q][c] = sum;
    }
  }
}

template <int kQueries>
inline void WeighTile(const AttentionScratch& s, int64_t first, int64_t slot, int d,
                      DensePartial* partial) {
  const float* weight[kQueries];
  float* out[kQueries];
  for (int q = 0; q < kQueries; ++q) {
    weight[q] = s.Scores(first + q, slot);
    out[q] = partial[first + q].out;
  }
  WeighValues<kQueries>(weight, s.values, d, out);
}

// Replaces the scores of the span by e^(s - max) and sums them; hidden keys get 0.
inline void ExponentialsOfPage(const AttentionTask& task, const AttentionScratch& s, int64_t slot,
                               const DensePartial* partial, Floats* sums) {
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    float* scores = s.Scores(q, slot);
    // A query that sees nothing of the span has -inf everywhere; any number keeps it so.
    const float seen_max = partial[q].sum.max;
    const Floats max = Set(seen_max == -kInfinity ? 0.0f : seen_max);
    const Floats factor = Set(ExponentFactor(task, s, q));
    Floats sum = sums[q];
    for (int v = 0; v < kPageTokens; v += kLanes) {
      const Floats e = Exp2((Load(scores + v) - max) * factor);
      Store(scores + v, e);
      sum += e;
    }
    sums[q] = sum;
  }
}

inline void WeighPage(const AttentionTask& task, const AttentionScratch& s, const PageView& page,
                      int64_t tokens, int64_t slot, DensePartial* partial) {
  const int64_t queries = TaskQueries(task);
  const int d = task.args->layout.value_dim;
  LoadValues(task, page, tokens, s.values);
  int64_t q = 0;
  for (; q + 4 <= queries; q += 4) WeighTile<4>(s, q, slot, d, partial);
  if (q + 3 == queries) return WeighTile<3>(s, q, slot, d, partial);
  for (; q < queries; ++q) WeighTile<1>(s, q, slot, d, partial);
}

#if defined(LECTERN_ISA_AVX512) || defined(LECTERN_ISA_AVX2)
// Int8 values times weights of 15 bits, summed exactly within a page. A weight is e^(s - max) times
// the scale of the value, in units of its row's largest in this page.
constexpr bool kIntegerValues = true;

#if defined(LECTERN_ISA_AVX512)
using IntegerSums = __m512i;
constexpr int kPairChannels = 64;
constexpr int kPairQueries = 6;  // of a tile: 24 sums in registers

// Two rows of values side by side, 64 channels: [32 pairs][64] of two int16. In every 32 channels
// those with bit 2 clear come first (UnpermuteChannels).
__attribute__((noinline)) void PairValues(const PageView& page, int d, int channel,
                                          int16_t* pairs) {
  const int8_t* rows = page.Get<int8_t>(page.at.values) + channel;
  for (int64_t j = 0; j < kPageTokens; j += 2, pairs += 2 * kPairChannels) {
    for (int half = 0; half < 2; ++half) {
      const __m256i* row = reinterpret_cast<const __m256i*>(rows + j * d + half * 32);
      const __m256i* next = reinterpret_cast<const __m256i*>(rows + (j + 1) * d + half * 32);
      const __m512i a = _mm512_cvtepi8_epi16(_mm256_loadu_si256(row));
      const __m512i b = _mm512_cvtepi8_epi16(_mm256_loadu_si256(next));
      _mm512_store_si512(pairs + half * 64, _mm512_unpacklo_epi16(a, b));
      _mm512_store_si512(pairs + half * 64 + 32, _mm512_unpackhi_epi16(a, b));
    }
  }
}

inline void UnpermuteChannels(float* x) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  for (int c = 0; c < kPairChannels; c += 32) {
    const __m512 a = _mm512_loadu_ps(x + c), b = _mm512_loadu_ps(x + c + 16);
    _mm512_storeu_ps(x + c, _mm512_permutex2var_ps(a, low, b));
    _mm512_storeu_ps(x + c + 16, _mm512_permutex2var_ps(a, high, b));
  }
}

inline void StoreRounded(int16_t* p, Floats x) {
  const __m512i rounded = _mm512_cvtps_epi32(reinterpret_cast<__m512>(x));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}

inline __attribute__((always_inline)) void AddPairs(IntegerSums& sums, const int16_t* values,
                                                    IntegerSums weights) {
  asm("vpdpwssd %1, %2, %0" : "+v"(sums) : "v"(_mm512_load_si512(values)), "v"(weights));
}
inline IntegerSums SetPair(int32_t two) { return _mm512_set1_epi32(two); }
#else
using IntegerSums = __m256i;
constexpr int kPairChannels = 32;
constexpr int kPairQueries = 3;  // of a tile: 12 sums in registers

// Two rows of values side by side, 32 channels: [32 pairs][32] of two int16. The halves of 16
// channels change places first as unpacking will change them.
__attribute__((noinline)) void PairValues(const PageView& page, int d, int channel,
                                          int16_t* pairs) {
  constexpr int kHalves = _MM_SHUFFLE(3, 1, 2, 0);
  const int8_t* rows = page.Get<int8_t>(page.at.values) + channel;
  for (int64_t j = 0; j < kPageTokens; j += 2, pairs += 2 * kPairChannels) {
    for (int half = 0; half < 2; ++half) {
      const __m128i* row = reinterpret_cast<const __m128i*>(rows + j * d + half * 16);
      const __m128i* next = reinterpret_cast<const __m128i*>(rows + (j + 1) * d + half * 16);
      const __m256i a = _mm256_cvtepi8_epi16(_mm_shuffle_epi32(_mm_loadu_si128(row), kHalves));
      const __m256i b = _mm256_cvtepi8_epi16(_mm_shuffle_epi32(_mm_loadu_si128(next), kHalves));
      __m256i* to = reinterpret_cast<__m256i*>(pairs + half * 32);
      _mm256_store_si256(to, _mm256_unpacklo_epi16(a, b));
      _mm256_store_si256(to + 1, _mm256_unpackhi_epi16(a, b));
    }
  }
}

inline void UnpermuteChannels(float*) {}

inline void StoreRounded(int16_t* p, Floats x) {
  const __m256i rounded = _mm256_cvtps_epi32(reinterpret_cast<__m256>(x));
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1)));
}

inline __attribute__((always_inline)) void AddPairs(IntegerSums& sums, const int16_t* values,
                                                    IntegerSums weights) {
  const __m256i two = _mm256_load_si256(reinterpret_cast<const __m256i*>(values));
  // With the intrinsic, GCC 12 keeps a second copy of each sum, some of them in memory.
  asm("vpaddd %1, %0, %0" : "+x"(sums) : "x"(_mm256_madd_epi16(two, weights)));
}
inline IntegerSums SetPair(int32_t two) { return _mm256_set1_epi32(two); }
#endif

// Rounds the weights of a page to integers and stores their unit.
inline void RoundWeights(const AttentionTask& task, const AttentionScratch& s, const PageView& page,
                         int64_t slot) {
  constexpr int kVectors = kPageTokens / kLanes;
  const float* scale = page.Get<float>(page.at.value_scale);
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const float* e = s.Scores(q, slot);
    Floats weight[kVectors];
    Floats largest = {};
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Floats x = Load(e + v * kLanes);
      // Scales of keys that are not seen may be anything.
      weight[v] = x > Floats{} ? x * Load(scale + v * kLanes) : Floats{};
      largest = Max(weight[v], largest);
    }
    const float unit = LargestLane(largest) / 32767.0f;
    s.weight_unit[q] = unit;
    const Floats inverse = Set(unit > 0 ? 1.0f / unit : 0.0f);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      StoreRounded(s.weights + q * kPageTokens + v * kLanes, weight[v] * inverse);
    }
  }
}

template <int N>
inline void WeighPairs(const AttentionScratch& s, int64_t first, const int16_t* pairs, int channel,
                       DensePartial* partial) {
  constexpr int kVectors = kPairChannels / kLanes;
  const int16_t* weights = s.weights + first * kPageTokens;
  IntegerSums acc[N][kVectors];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[n][v] = IntegerSums{};
  }
  for (int j = 0; j < kPageTokens; j += 2, pairs += 2 * kPairChannels) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      int32_t two;
      std::memcpy(&two, weights + n * kPageTokens + j, 4);
      const IntegerSums w = SetPair(two);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) AddPairs(acc[n][v], pairs + v * 2 * kLanes, w);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    float* out = partial[first + n].out + channel;
    const Floats unit = Set(s.weight_unit[first + n]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Store(out + v * kLanes,
            Load(out + v * kLanes) + ToFloats(reinterpret_cast<Ints>(acc[n][v])) * unit);
    }
  }
}

inline void WeighPageInt8(const AttentionTask& task, const AttentionScratch& s,
                          const PageView& page, int64_t slot, DensePartial* partial) {
  const int64_t queries = TaskQueries(task);
  const int d = task.args->layout.value_dim;
  int16_t* pairs = reinterpret_cast<int16_t*>(s.values);
  RoundWeights(task, s, page, slot);
  for (int channel = 0; channel < d; channel += kPairChannels) {
    PairValues(page, d, channel, pairs);
    int64_t q = 0;
    for (; q + kPairQueries <= queries; q += kPairQueries) {
      WeighPairs<kPairQueries>(s, q, pairs, channel, partial);
    }
    for (; q + 3 <= queries; q += 3) WeighPairs<3>(s, q, pairs, channel, partial);
    for (; q < queries; ++q) WeighPairs<1>(s, q, pairs, channel, partial);
  }
}
#else
constexpr bool kIntegerValues = false;
constexpr int kPairChannels = 1;
inline void WeighPageInt8(const AttentionTask&, const AttentionScratch&, const PageView&, int64_t,
                          DensePartial*) {}
inline void UnpermuteChannels(float*) {}
#endif

// Scores of the pages of the task's first span; returns these.
inline PageRange ScoreSpan(const AttentionTask& task, const AttentionScratch& s) {
  const PageRange pages = SeenPages(task, task.first_span, task.first_span + 1);
  const int64_t listed = ListPages(s, SeenPages(task, task.first_span, task.first_span + 2));
  ScorePages(task, s, s.pages, pages.end - pages.first, listed, nullptr);
  return pages;
}

void DenseScan(const AttentionTask& task, float* scratch, DensePartial* partial) {
  const AttentionScratch s = CutScratch(task, scratch);
  const AttentionArgs& a = *task.args;
  const KvHeadLayout at = HeadLayout(a.layout);
  const int64_t queries = TaskQueries(task);
  const int d = a.layout.value_dim;
  const bool integers = kIntegerValues && a.layout.type == KvType::kI8 && d % kPairChannels == 0;
  Floats sums[256];
  for (int64_t q = 0; q < queries; ++q) {
    sums[q] = Floats{};
    for (int c = 0; c < d; ++c) partial[q].out[c] = 0;
    partial[q].sum = {-kInfinity, 0};
  }
  const PageRange pages = ScoreSpan(task, s);
  if (pages.first >= pages.end) return;
  for (int64_t q = 0; q < queries; ++q) {
    partial[q].sum.max = LargestOf(s.Maxima(q, 0), (pages.end - pages.first) * kGroupsPerPage);
  }
  for (int64_t p = pages.first; p < pages.end; ++p) {
    const PageView page = ViewPage(task, at, p);
    const int64_t slot = p - pages.first;
    const int64_t left = a.table.num_tokens - p * kPageTokens;
    const int64_t tokens = left < kPageTokens ? left : kPageTokens;
    ExponentialsOfPage(task, s, slot, partial, sums);
    if (integers) {
      WeighPageInt8(task, s, page, slot, partial);
    } else {
      WeighPage(task, s, page, tokens, slot, partial);
    }
  }
  for (int64_t q = 0; q < queries; ++q) {
    partial[q].sum.sum = SumPairwise(sums[q]);
    for (int c = 0; integers && c < d; c += kPairChannels) UnpermuteChannels(partial[q].out + c);
  }
}

void DenseFold(const AttentionTask& task, float* scratch, DensePartial* total,
               const DensePartial* part) {
  const AttentionScratch s = CutScratch(task, scratch);
  const int d = task.args->layout.value_dim;
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    DensePartial& t = total[q];
    const DensePartial& p = part[q];
    if (p.sum.max == -kInfinity) continue;
    // Exp2(0) is not exactly 1. A row must get the same bits whether its first span is the first of
    // the task or not.
    if (t.sum.max == -kInfinity) {
      for (int c = 0; c < d; ++c) t.out[c] = p.out[c];
      t.sum = p.sum;
      continue;
    }
    const float factor = ExponentFactor(task, s, q);
    const float max = t.sum.max > p.sum.max ? t.sum.max : p.sum.max;
    const float keep = Exp2Scalar((t.sum.max - max) * factor);
    const float add = Exp2Scalar((p.sum.max - max) * factor);
    for (int c = 0; c < d; ++c) t.out[c] = t.out[c] * keep + p.out[c] * add;
    t.sum = {max, t.sum.sum * keep + p.sum.sum * add};
  }
}

void DenseKeyMass(const AttentionTask& task, float* scratch, const DensePartial* totals,
                  float* key_mass) {
  const AttentionScratch s = CutScratch(task, scratch);
  const PageRange pages = ScoreSpan(task, s);
  if (pages.first >= pages.end) return;
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const SoftmaxSum total = totals[q].sum;
    if (total.max == -kInfinity) continue;
    const Floats share = Set(1.0f / total.sum);
    const Floats max = Set(total.max), factor = Set(ExponentFactor(task, s, q));
    for (int64_t p = pages.first; p < pages.end; ++p) {
      const float* scores = s.Scores(q, p - pages.first);
      const int64_t left = task.args->table.num_tokens - p * kPageTokens;
      for (int v = 0; v < kPageTokens && v < left; v += kLanes) {
        const Floats mass = Exp2((Load(scores + v) - max) * factor) * share;
        float* to = key_mass + p * kPageTokens + v;
        if (v + kLanes <= left) {
          Store(to, Load(to) + mass);
        } else {
          for (int i = 0; i < left - v; ++i) to[i] += mass[i];
        }
      }
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::internal
