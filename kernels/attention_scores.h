// Scores of one page: q.k for every query of a task and the 64 keys of a page, scaled, biased and
// masked. Included like attention_simd.h.
#pragma once

#include "kernels/attention_isa.h"
#include "kernels/attention_simd.h"

namespace lectern::kernels::internal {
namespace {

// The task's scratch, cut up.
struct Scratch {
  float* scores;     // [queries, 64]
  float* query;      // [queries, head_dim] fp32, or int8 rows of PaddedHeadDim bytes
  float* q_scale;    // [queries]: what an integer product is worth before the key's scale
  float* values;     // [64, value_dim] dequantised values of a page
  float* value_sum;  // [value_dim]
};

inline Scratch CutScratch(const AttentionTask& task, float* scratch) {
  const int64_t queries = TaskQueries(task);
  Scratch s;
  s.scores = scratch;
  s.query = s.scores + queries * kPageTokens;
  s.q_scale = s.query + queries * (task.args->layout.head_dim + 8);
  s.values = s.q_scale + (queries + 15) / 16 * 16;
  s.value_sum = s.values + static_cast<int64_t>(kPageTokens) * task.args->layout.value_dim;
  return s;
}

struct PageView {
  const std::byte* base;
  KvHeadLayout at;
  template <typename T>
  const T* Get(size_t offset) const {
    return reinterpret_cast<const T*>(base + offset);
  }
};

inline PageView ViewPage(const AttentionTask& task, const KvHeadLayout& at, int64_t page) {
  const AttentionArgs& a = *task.args;
  return {a.table.pages[page] + HeadOffset(a.layout, at, a.layer, task.kv_head), at};
}

inline const float* QueryRow(const AttentionTask& task, int64_t row, int64_t head) {
  const AttentionArgs& a = *task.args;
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  return a.q + (task.first_row + row) * a.q_stride +
         (task.kv_head * group + head) * a.layout.head_dim;
}

void Prepare(const AttentionTask& task, float* scratch) {
  const AttentionArgs& a = *task.args;
  const Scratch s = CutScratch(task, scratch);
  const int d = a.layout.head_dim;
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  const int padded = PaddedHeadDim(d);
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const float* row = QueryRow(task, q / group, q % group);
    if (a.layout.type == KvType::kF32) {
      for (int c = 0; c < d; ++c) s.query[q * d + c] = row[c];
      s.q_scale[q] = a.scale;
      continue;
    }
    float largest = 0;
    for (int c = 0; c < d; ++c) largest = __builtin_fmaxf(largest, __builtin_fabsf(row[c]));
    // Below 1e-36 the inverse would overflow; such a row scores 0.
    const bool usable = largest > 1e-36f && largest <= kLargest;
    const float inverse = usable ? 127.0f / largest : 0.0f;
    int8_t* out = reinterpret_cast<int8_t*>(s.query) + q * padded;
    for (int c = 0; c < padded; ++c) {
      const float scaled = c < d ? row[c] * inverse : 0.0f;
      const float x = scaled == scaled ? scaled : 0.0f;  // NaN has no integer
      const float rounded = (x + 12582912.0f) - 12582912.0f;
#if defined(LECTERN_ISA_AVX512)
      // The integer product wants unsigned queries: 128 more, taken off again with the keys' sums.
      out[c] = static_cast<int8_t>(static_cast<uint8_t>(static_cast<int>(rounded) + 128));
#else
      out[c] = static_cast<int8_t>(rounded);
#endif
    }
    s.q_scale[q] = largest / 127.0f * a.scale;
  }
}

#if defined(LECTERN_ISA_AVX512)
// N queries against 64 keys. Inline assembly, because GCC 12 copies the accumulators of the
// intrinsic around in large register tiles.
template <int N>
inline void IntegerScores(const uint8_t* query, int padded, const int8_t* keys, __m512i (*acc)[4]) {
  for (int n = 0; n < N; ++n) {
    for (int v = 0; v < 4; ++v) acc[n][v] = _mm512_setzero_si512();
  }
  for (int c = 0; c < padded; c += 4) {
    const int8_t* tile = keys + static_cast<int64_t>(c) * kPageTokens;
    const __m512i k0 = _mm512_loadu_si512(tile);
    const __m512i k1 = _mm512_loadu_si512(tile + 64);
    const __m512i k2 = _mm512_loadu_si512(tile + 128);
    const __m512i k3 = _mm512_loadu_si512(tile + 192);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      int32_t four;
      std::memcpy(&four, query + static_cast<int64_t>(n) * padded + c, 4);
      const __m512i q = _mm512_set1_epi32(four);
      asm("vpdpbusd %1, %2, %0" : "+v"(acc[n][0]) : "v"(k0), "v"(q));
      asm("vpdpbusd %1, %2, %0" : "+v"(acc[n][1]) : "v"(k1), "v"(q));
      asm("vpdpbusd %1, %2, %0" : "+v"(acc[n][2]) : "v"(k2), "v"(q));
      asm("vpdpbusd %1, %2, %0" : "+v"(acc[n][3]) : "v"(k3), "v"(q));
    }
  }
}

template <int N>
inline void ScoresInt8(const uint8_t* query, const float* q_scale, int padded, const PageView& page,
                       float* scores) {
  __m512i acc[N][4];
  IntegerScores<N>(query, padded, page.Get<int8_t>(page.at.keys), acc);
  const int32_t* sum128 = page.Get<int32_t>(page.at.key_sum128);
  const float* key_scale = page.Get<float>(page.at.key_scale);
  for (int v = 0; v < 4; ++v) {
    const __m512i correction = _mm512_loadu_si512(sum128 + v * 16);
    const Vec scale = Load(key_scale + v * 16);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      const IntVec exact = reinterpret_cast<IntVec>(_mm512_sub_epi32(acc[n][v], correction));
      Store(scores + n * kPageTokens + v * 16, ToFloat(exact) * (scale * Set(q_scale[n])));
    }
  }
}
#elif defined(LECTERN_ISA_AVX2)
// |q| * sign(k): pairs of products stay below 2 * 127 * 127 < 2^15, so nothing saturates.
inline void ScoresInt8One(const int8_t* query, float q_scale, int padded, const PageView& page,
                          float* scores) {
  const int8_t* keys = page.Get<int8_t>(page.at.keys);
  const float* key_scale = page.Get<float>(page.at.key_scale);
  __m256i acc[8];
  for (auto& a : acc) a = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int c = 0; c < padded; c += 4) {
    int32_t four;
    std::memcpy(&four, query + c, 4);
    const __m256i q = _mm256_set1_epi32(four);
    const __m256i magnitude = _mm256_abs_epi8(q);
    const int8_t* tile = keys + static_cast<int64_t>(c) * kPageTokens;
    for (int v = 0; v < 8; ++v) {
      const __m256i k = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + v * 32));
      const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(k, q));
      acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs, ones));
    }
  }
  for (int v = 0; v < 8; ++v) {
    Store(scores + v * 8,
          ToFloat(reinterpret_cast<IntVec>(acc[v])) * (Load(key_scale + v * 8) * Set(q_scale)));
  }
}
#else
inline void ScoresInt8One(const int8_t* query, float q_scale, int padded, const PageView& page,
                          float* scores) {
  const int8_t* keys = page.Get<int8_t>(page.at.keys);
  const float* key_scale = page.Get<float>(page.at.key_scale);
  for (int j = 0; j < kPageTokens; ++j) {
    int32_t sum = 0;
    for (int c = 0; c < padded; ++c) {
      sum += query[c] * keys[static_cast<int64_t>(c / 4) * kPageTokens * 4 + j * 4 + c % 4];
    }
    scores[j] = static_cast<float>(sum) * (key_scale[j] * q_scale);
  }
}
#endif

inline void ScoresF32(const float* query, float scale, int d, const float* keys, float* scores) {
  Vec acc[kPageTokens / kWidth] = {};
  for (int c = 0; c < d; ++c) {
    const Vec q = Set(query[c]);
    for (int v = 0; v < kPageTokens / kWidth; ++v) {
      acc[v] += q * Load(keys + c * kPageTokens + v * kWidth);
    }
  }
  for (int v = 0; v < kPageTokens / kWidth; ++v) Store(scores + v * kWidth, acc[v] * Set(scale));
}

inline void ScorePage(const AttentionTask& task, const Scratch& s, const PageView& page) {
  const AttentionArgs& a = *task.args;
  const int64_t queries = TaskQueries(task);
  const int d = a.layout.head_dim;
  if (a.layout.type == KvType::kF32) {
    for (int64_t q = 0; q < queries; ++q) {
      ScoresF32(s.query + q * d, s.q_scale[q], d, page.Get<float>(page.at.keys),
                s.scores + q * kPageTokens);
    }
    return;
  }
  const int padded = PaddedHeadDim(d);
#if defined(LECTERN_ISA_AVX512)
  const uint8_t* query = reinterpret_cast<const uint8_t*>(s.query);
  int64_t q = 0;
  for (; q + 6 <= queries; q += 6) {
    ScoresInt8<6>(query + q * padded, s.q_scale + q, padded, page, s.scores + q * kPageTokens);
  }
  for (; q + 3 <= queries; q += 3) {
    ScoresInt8<3>(query + q * padded, s.q_scale + q, padded, page, s.scores + q * kPageTokens);
  }
  for (; q < queries; ++q) {
    ScoresInt8<1>(query + q * padded, s.q_scale + q, padded, page, s.scores + q * kPageTokens);
  }
#else
  const int8_t* query = reinterpret_cast<const int8_t*>(s.query);
  for (int64_t q = 0; q < queries; ++q) {
    ScoresInt8One(query + q * padded, s.q_scale[q], padded, page, s.scores + q * kPageTokens);
  }
#endif
}

// Makes the scores of visible keys finite (NaN counts as the lowest), those of hidden keys -inf.
// Returns how many keys of the page the query sees.
inline int64_t MaskScores(const AttentionTask& task, int64_t query, int64_t first_key,
                          float* scores) {
  const AttentionArgs& a = *task.args;
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  const int64_t row = task.first_row + query / group;
  const int64_t begin = FirstVisible(a, row) - first_key;
  const int64_t end = EndVisible(a, row) - first_key;
  const int low = begin > 0 ? (begin < kPageTokens ? static_cast<int>(begin) : kPageTokens) : 0;
  const int high = end < kPageTokens ? (end > low ? static_cast<int>(end) : low) : kPageTokens;
  const float* bias = nullptr;
  if (a.bias != nullptr) {
    bias = a.bias + (task.kv_head * group + query % group) * a.bias_head_stride +
           row * a.bias_row_stride + first_key;
    for (int j = low; j < high; ++j) scores[j] += bias[j];
  }
  const Vec lowest = Set(-kLargest), highest = Set(kLargest);
  for (int v = 0; v < kPageTokens; v += kWidth) {
    Vec x = Load(scores + v);
    x = x > lowest ? x : lowest;
    x = x < highest ? x : highest;
    Store(scores + v, x);
  }
  for (int j = 0; j < low; ++j) scores[j] = -kInfinity;
  for (int j = high; j < kPageTokens; ++j) scores[j] = -kInfinity;
  int64_t visible = high - low;
  if (bias == nullptr && a.key_padding == nullptr) return visible;
  for (int j = low; j < high; ++j) {
    const bool hidden = (bias != nullptr && bias[j] == -kInfinity) ||
                        (a.key_padding != nullptr && a.key_padding[first_key + j] != 0);
    if (hidden) {
      scores[j] = -kInfinity;
      --visible;
    }
  }
  return visible;
}

}  // namespace
}  // namespace lectern::kernels::internal
