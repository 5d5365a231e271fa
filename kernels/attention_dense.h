// Dense attention for one instruction set, a span of keys at a time: scores of the span, then, page
// by page, exponentials and the weighted values. Included like attention_simd.h.
#pragma once

#include "kernels/attention_isa.h"
#include "kernels/attention_scores.h"
#include "kernels/attention_simd.h"
#include "kernels/attention_values.h"

namespace lectern::kernels::internal {
namespace {

// Values of a page as floats in scratch. Not inlined: inside DenseScan its pointers were spilled
// and reloaded for every vector.
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
      for (; c + kWidth <= d; c += kWidth)
        Store(values + j * d + c, LoadInt8(rows + j * d + c) * Set(scale[j]));
      for (; c < d; ++c) values[j * d + c] = scale[j] * static_cast<float>(rows[j * d + c]);
    }
  }
  // Slots behind the last token may hold anything; their weight is 0, and 0 * NaN is not.
  for (int64_t i = tokens * d; i < static_cast<int64_t>(kPageTokens) * d; ++i) values[i] = 0;
}

// out[q] += sum over 64 keys of weight[q][key] * values[key], for kQueries queries.
template <int kQueries>
inline void WeighValues(const float* const* weight, const float* values, int d, float* const* out) {
  constexpr int kVectors = kWidth == 16 ? 4 : 2;
  int c = 0;
  for (; c + kVectors * kWidth <= d; c += kVectors * kWidth) {
    Vec acc[kQueries][kVectors];
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[q][v] = Load(out[q] + c + v * kWidth);
    }
    for (int j = 0; j < kPageTokens; ++j) {
      Vec x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = Load(values + j * d + c + v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < kQueries; ++q) {
        const Vec w = Set(weight[q][j]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) acc[q][v] += w * x[v];
      }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) Store(out[q] + c + v * kWidth, acc[q][v]);
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

// e^(s - max) of the span, in place of the scores, and their sums; hidden keys get 0.
inline void ExponentialsOfPage(const AttentionTask& task, const AttentionScratch& s, int64_t slot,
                               const DensePartial* partial, Vec* sums) {
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    float* scores = s.Scores(q, slot);
    // A query that sees nothing of the span has -inf everywhere; any number keeps it so.
    const float seen_max = partial[q].sum.max;
    const Vec max = Set(seen_max == -kInfinity ? 0.0f : seen_max);
    const Vec factor = Set(ExponentFactor(task, s, q));
    Vec sum = sums[q];
    for (int v = 0; v < kPageTokens; v += kWidth) {
      const Vec e = Exp2((Load(scores + v) - max) * factor);
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

#if defined(LECTERN_ISA_AVX512)
// Int8 values times weights of 15 bits, summed exactly within a page. A weight is e^(s - max) times
// the scale of the value, in units of its row's largest in this page.

constexpr int kPairChannels = 64;

// Two rows of values side by side, 64 channels: [32 pairs][64] of two int16. Of every 32 channels
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

// Weights of a page as integers, and what one is worth.
inline void RoundWeights(const AttentionTask& task, const AttentionScratch& s, const PageView& page,
                         int64_t slot) {
  const float* scale = page.Get<float>(page.at.value_scale);
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const float* e = s.Scores(q, slot);
    __m512 weight[4];
    __m512 largest = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m512 x = _mm512_loadu_ps(e + v * 16);
      // Scales of keys that are not seen may be anything.
      const __mmask16 seen = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
      weight[v] = _mm512_maskz_mul_ps(seen, x, _mm512_maskz_loadu_ps(seen, scale + v * 16));
      largest = _mm512_max_ps(largest, weight[v]);
    }
    const float unit = _mm512_reduce_max_ps(largest) / 32767.0f;
    s.weight_unit[q] = unit;
    const __m512 inverse = _mm512_set1_ps(unit > 0 ? 1.0f / unit : 0.0f);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(weight[v], inverse));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(s.weights + q * kPageTokens + v * 16),
                          _mm512_cvtepi32_epi16(rounded));
    }
  }
}

template <int N>
inline void WeighPairs(const AttentionScratch& s, int64_t first, const int16_t* pairs, int channel,
                       DensePartial* partial) {
  const int16_t* weights = s.weights + first * kPageTokens;
  __m512i acc[N][4];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) acc[n][v] = _mm512_setzero_si512();
  }
  for (int j = 0; j < kPageTokens; j += 2, pairs += 2 * kPairChannels) {
    const __m512i v0 = _mm512_load_si512(pairs);
    const __m512i v1 = _mm512_load_si512(pairs + 32);
    const __m512i v2 = _mm512_load_si512(pairs + 64);
    const __m512i v3 = _mm512_load_si512(pairs + 96);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      int32_t two;
      std::memcpy(&two, weights + n * kPageTokens + j, 4);
      const __m512i w = _mm512_set1_epi32(two);
      asm("vpdpwssd %1, %2, %0" : "+v"(acc[n][0]) : "v"(v0), "v"(w));
      asm("vpdpwssd %1, %2, %0" : "+v"(acc[n][1]) : "v"(v1), "v"(w));
      asm("vpdpwssd %1, %2, %0" : "+v"(acc[n][2]) : "v"(v2), "v"(w));
      asm("vpdpwssd %1, %2, %0" : "+v"(acc[n][3]) : "v"(v3), "v"(w));
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    float* out = partial[first + n].out + channel;
    const Vec unit = Set(s.weight_unit[first + n]);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      Store(out + v * 16, Load(out + v * 16) + ToFloat(reinterpret_cast<IntVec>(acc[n][v])) * unit);
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
    for (; q + 6 <= queries; q += 6) WeighPairs<6>(s, q, pairs, channel, partial);
    for (; q + 3 <= queries; q += 3) WeighPairs<3>(s, q, pairs, channel, partial);
    for (; q < queries; ++q) WeighPairs<1>(s, q, pairs, channel, partial);
  }
}
#endif

void DenseScan(const AttentionTask& task, float* scratch, DensePartial* partial) {
  const AttentionScratch s = CutScratch(task, scratch);
  const AttentionArgs& a = *task.args;
  const KvHeadLayout at = HeadLayout(a.layout);
  const int64_t queries = TaskQueries(task);
  const int d = a.layout.value_dim;
  Vec sums[256];
  for (int64_t q = 0; q < queries; ++q) {
    sums[q] = Vec{};
    for (int c = 0; c < d; ++c) partial[q].out[c] = 0;
    partial[q].sum = {-kInfinity, 0};
  }
  const PageRange pages = SeenPages(task, task.first_span, task.first_span + 1);
  if (pages.first >= pages.end) return;
  ScorePages(task, s, s.pages, ListPages(s, pages), nullptr);
  for (int64_t q = 0; q < queries; ++q) {
    partial[q].sum.max = LargestOf(s.Maxima(q, 0), (pages.end - pages.first) * kGroupsPerPage);
  }
  for (int64_t p = pages.first; p < pages.end; ++p) {
    const PageView page = ViewPage(task, at, p);
    const int64_t slot = p - pages.first;
    const int64_t left = a.table.num_tokens - p * kPageTokens;
    const int64_t tokens = left < kPageTokens ? left : kPageTokens;
    ExponentialsOfPage(task, s, slot, partial, sums);
#if defined(LECTERN_ISA_AVX512)
    if (a.layout.type == KvType::kI8 && d % kPairChannels == 0) {
      WeighPageInt8(task, s, page, slot, partial);
      continue;
    }
#endif
    WeighPage(task, s, page, tokens, slot, partial);
  }
  for (int64_t q = 0; q < queries; ++q) {
    partial[q].sum.sum = Sum(sums[q]);
#if defined(LECTERN_ISA_AVX512)
    if (a.layout.type != KvType::kI8 || d % kPairChannels != 0) continue;
    for (int c = 0; c < d; c += kPairChannels) UnpermuteChannels(partial[q].out + c);
#endif
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
    const float factor = ExponentFactor(task, s, q);
    const float max = t.sum.max > p.sum.max ? t.sum.max : p.sum.max;
    const float keep = t.sum.max == -kInfinity ? 0.0f : Exp2Scalar((t.sum.max - max) * factor);
    const float add = Exp2Scalar((p.sum.max - max) * factor);
    for (int c = 0; c < d; ++c) t.out[c] = t.out[c] * keep + p.out[c] * add;
    t.sum = {max, t.sum.sum * keep + p.sum.sum * add};
  }
}

void DenseKeyMass(const AttentionTask& task, float* scratch, const DensePartial* totals,
                  float* key_mass) {
  const AttentionScratch s = CutScratch(task, scratch);
  const PageRange pages = SeenPages(task, task.first_span, task.first_span + 1);
  if (pages.first >= pages.end) return;
  ScorePages(task, s, s.pages, ListPages(s, pages), nullptr);
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const SoftmaxSum total = totals[q].sum;
    if (total.max == -kInfinity) continue;
    const Vec share = Set(1.0f / total.sum);
    const Vec max = Set(total.max), factor = Set(ExponentFactor(task, s, q));
    for (int64_t p = pages.first; p < pages.end; ++p) {
      const float* scores = s.Scores(q, p - pages.first);
      const int64_t left = task.args->table.num_tokens - p * kPageTokens;
      for (int v = 0; v < kPageTokens && v < left; v += kWidth) {
        const Vec mass = Exp2((Load(scores + v) - max) * factor) * share;
        float* to = key_mass + p * kPageTokens + v;
        if (v + kWidth <= left) {
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
