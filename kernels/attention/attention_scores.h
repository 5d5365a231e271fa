// Scores of pages: q.k for every query of a task and the 64 keys of a page, masked. Include it as
// simd.h.
//
// A stored score is q.k in a unit of its query, unit[q] >= 0: the row scale of an int8 query times
// the scale of the attention. That keeps the scores of a query comparable and saves a product. With
// a bias or a cap, scores are stored scaled, and the unit is 1 (ScoreUnit).
#pragma once

#include "kernels/attention/attention_task.h"
#include "kernels/runtime/simd_exp.h"

namespace lectern::kernels::internal {
namespace {

struct PageView {
  const std::byte* base;
  KvHeadLayout at;
  const std::byte* ahead = nullptr;  // a page that will be scored soon, or null
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

#if defined(LECTERN_ISA_AVX2)
// Four products of a query with bytes up to 255 are added in 16 bits: numbers of one sign among
// them may come to 128. Each was rounded up by half at most.
constexpr float kQueryQuad = 126;

// Eight channels of a row, with zeros after its end.
inline __m256 LoadChannels(const float* row, int first, int d) {
  if (first + 8 <= d) return _mm256_loadu_ps(row + first);
  float last[8] = {};
  for (int c = first; c < d; ++c) last[c - first] = row[c];
  return _mm256_loadu_ps(last);
}

// The smallest step to which a query may be rounded: the largest sum of magnitudes of one sign
// among channels 0, 1, 4, 5 or 2, 3, 6, 7 of any eight, which are those that TileInt8 adds, is
// kQueryQuad steps.
inline float QuadStep(const float* row, int d) {
  const __m256 zero = _mm256_setzero_ps();
  const auto add_halves = [](__m256 v) {
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  };
  __m128 most = _mm_setzero_ps();
  for (int c = 0; c < d; c += 8) {
    // Scaled first, so that no sum of four overflows.
    const __m256 x = _mm256_mul_ps(LoadChannels(row, c, d), _mm256_set1_ps(1.0f / kQueryQuad));
    const __m256 above = _mm256_max_ps(x, zero);
    const __m256 below = _mm256_max_ps(_mm256_sub_ps(zero, x), zero);
    most = _mm_max_ps(_mm_hadd_ps(add_halves(above), add_halves(below)), most);
  }
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

// Writes a query in multiples of 1 / inverse, eight channels at a time; returns their sum.
inline int32_t WriteRounded(const float* row, int d, float inverse, int8_t* out) {
  __m256i sum = _mm256_setzero_si256();
  for (int c = 0; c < d; c += 8) {
    __m256 x = _mm256_mul_ps(LoadChannels(row, c, d), _mm256_set1_ps(inverse));
    x = _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q));  // NaN has no integer
    const __m256i rounded = _mm256_cvtps_epi32(x);
    sum = _mm256_add_epi32(sum, rounded);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + c), _mm_packs_epi16(words, words));
  }
  int32_t lanes[8], total = 0;
  std::memcpy(lanes, &sum, sizeof lanes);
  for (const int32_t lane : lanes) total += lane;
  return total;
}
#else
constexpr float kQueryOffset = kLanes == 16 ? 128 : 0;  // of the stored numbers

inline float QuadStep(const float*, int) { return 0; }

// Writes a query in multiples of 1 / inverse, plus kQueryOffset.
inline int32_t WriteRounded(const float* row, int d, float inverse, int8_t* out) {
  const int padded = PaddedHeadDim(d);
  for (int c = 0; c < padded; ++c) {
    const float scaled = c < d ? row[c] * inverse : 0.0f;
    const float x = scaled == scaled ? scaled : 0.0f;  // NaN has no integer
    const float rounded = (x + 12582912.0f) - 12582912.0f + kQueryOffset;
    out[c] = static_cast<int8_t>(static_cast<uint8_t>(static_cast<int>(rounded)));
  }
  return 0;
}
#endif

// Rounds query q of a task to int8 (on AVX-512 unsigned with an offset of 128, as its products
// need).
inline void RoundQuery(const float* row, int d, float scale, int64_t q, const AttentionScratch& s) {
  Floats magnitudes = {};
  float largest = 0;
  int c = 0;
  for (; c + kLanes <= d; c += kLanes) {
    const Floats x = Load(row + c);
    magnitudes = Max(Max(x, -x), magnitudes);
  }
  largest = LargestLane(magnitudes);
  for (; c < d; ++c) {
    const float magnitude = __builtin_fabsf(row[c]);
    largest = magnitude > largest ? magnitude : largest;
  }
  const float all_channels = largest / 127.0f, quads = QuadStep(row, d);
  const float step = quads > all_channels ? quads : all_channels;
  // Below 1e-36 the inverse would overflow; such a row scores 0.
  const bool usable = largest > 1e-36f && largest <= kLargest;
  int8_t* const out = reinterpret_cast<int8_t*>(s.query) + q * PaddedHeadDim(d);
  s.query_sum[q] = WriteRounded(row, d, usable ? 1.0f / step : 0.0f, out);
  s.unit[q] = step * scale;
}

void Prepare(const AttentionTask& task, float* scratch) {
  const AttentionArgs& a = *task.args;
  const AttentionScratch s = CutScratch(task, scratch);
  const int d = a.layout.head_dim;
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const float* row = QueryRow(task, q / group, q % group);
    if (a.layout.type == KvType::kF32) {
      for (int c = 0; c < d; ++c) s.query[q * d + c] = row[c];
      s.unit[q] = a.scale;
    } else {
      RoundQuery(row, d, a.scale, q, s);
    }
  }
}

// The unit of the stored scores of a query.
inline float ScoreUnit(const AttentionTask& task, const AttentionScratch& s, int64_t query) {
  return task.args->bias != nullptr || task.args->score_cap > 0 ? 1.0f : s.unit[query];
}

// The factor of differences of stored scores before Exp2. It is not 0, so that hidden keys stay at
// -inf; a query of zeros has equal scores.
inline float ExponentFactor(const AttentionTask& task, const AttentionScratch& s, int64_t query) {
  const float factor = ScoreUnit(task, s, query) * kLog2E;
  return factor == 0.0f ? 1e-37f : factor;
}

// Writes the largest score of each group of a page.
inline void WriteMaxima(const float* scores, float* maxima) {
  for (int g = 0; g < kGroupsPerPage; g += kLanes) {
    Floats largest = Load(scores + g);
    for (int v = kGroupsPerPage; v < kPageTokens; v += kGroupsPerPage) {
      largest = Max(Load(scores + v + g), largest);
    }
    Store(maxima + g, largest);
  }
}

inline Floats Finite(Floats x) {
  x = Max(x, Set(-kLargest));
  return x < Set(kLargest) ? x : Set(kLargest);
}

// Starts loading four cache lines. The hardware's prefetcher stops at the end of a page of memory,
// which is about the end of a page of keys.
inline void PrefetchLines(const std::byte* line) {
  for (int i = 0; i < 4; ++i) __builtin_prefetch(line + i * 64);
}

#if defined(LECTERN_ISA_AVX512)
// N queries against 64 keys. Inline assembly, because GCC 12 copies the accumulators of the
// intrinsic around in large register tiles. The offset of the queries adds 128 times the sum
// of a key, so the sums start that much below zero.
template <int N>
inline void TileInt8(const AttentionScratch& s, int64_t first, int padded, const PageView& page,
                     int64_t slot) {
  const int8_t* keys = page.Get<int8_t>(page.at.keys);
  const uint8_t* query = reinterpret_cast<const uint8_t*>(s.query) + first * padded;
  const int32_t* start = page.Get<int32_t>(page.at.key_start);
  const std::byte* ahead = (page.ahead == nullptr ? page.base : page.ahead) + page.at.keys;
  __m512i acc[N][4];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) acc[n][v] = _mm512_load_si512(start + v * 16);
  }
  for (int c = 0; c < padded; c += 4) {
    const int8_t* tile = keys + static_cast<int64_t>(c) * kPageTokens;
    PrefetchLines(ahead + static_cast<int64_t>(c) * kPageTokens);
    const __m512i k0 = _mm512_load_si512(tile);
    const __m512i k1 = _mm512_load_si512(tile + 64);
    const __m512i k2 = _mm512_load_si512(tile + 128);
    const __m512i k3 = _mm512_load_si512(tile + 192);
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
  PrefetchLines(ahead - page.at.keys + page.at.key_scale);
  PrefetchLines(ahead - page.at.keys + page.at.key_start);
  const float* scale = page.Get<float>(page.at.key_scale);
  const Floats scales[4] = {Load(scale), Load(scale + 16), Load(scale + 32), Load(scale + 48)};
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    float* scores = s.Scores(first + n, slot);
    const Floats x0 = ToFloats(reinterpret_cast<Ints>(acc[n][0])) * scales[0];
    const Floats x1 = ToFloats(reinterpret_cast<Ints>(acc[n][1])) * scales[1];
    const Floats x2 = ToFloats(reinterpret_cast<Ints>(acc[n][2])) * scales[2];
    const Floats x3 = ToFloats(reinterpret_cast<Ints>(acc[n][3])) * scales[3];
    Store(scores, x0);
    Store(scores + 16, x1);
    Store(scores + 32, x2);
    Store(scores + 48, x3);
    Store(s.Maxima(first + n, slot), Max(Max(x0, x1), Max(x2, x3)));
  }
}
constexpr int kInt8Queries = 6;
#elif defined(LECTERN_ISA_AVX2)
inline __attribute__((always_inline)) __m256i Broadcast4(const int8_t* bytes) {
  int32_t four;
  std::memcpy(&four, bytes, 4);
  return _mm256_set1_epi32(four);
}

// Adds eight products to the sum of each of 8 keys. RoundQuery ensures that 16 bits hold four.
inline __attribute__((always_inline)) __m256i AddProducts(__m256i sum, __m256i k0, __m256i q0,
                                                          __m256i k1, __m256i q1) {
  const __m256i four = _mm256_add_epi16(_mm256_maddubs_epi16(k0, q0), _mm256_maddubs_epi16(k1, q1));
  const __m256i eight = _mm256_madd_epi16(four, _mm256_set1_epi16(1));
  // With the intrinsic, GCC 12 keeps a second copy of each sum, some of them in memory.
  asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(eight));
  return sum;
}

// Loads four channels of 8 keys as unsigned numbers, with an offset of 128.
inline __attribute__((always_inline)) __m256i LoadKeys(const int8_t* keys) {
  return _mm256_xor_si256(_mm256_load_si256(reinterpret_cast<const __m256i*>(keys)),
                          _mm256_set1_epi8(-128));
}

// N queries against 16 keys at a time. The offset of the keys adds 128 times the sum of a query,
// so the sums start that much below zero.
template <int N>
inline void TileInt8(const AttentionScratch& s, int64_t first, int padded, const PageView& page,
                     int64_t slot) {
  const int8_t* query = reinterpret_cast<const int8_t*>(s.query) + first * padded;
  const int32_t* query_sum = s.query_sum + first;
  const float* scale = page.Get<float>(page.at.key_scale);
  // One line after the other, unlike the keys of this page: memory is quickest in order.
  const std::byte* next = (page.ahead == nullptr ? page.base : page.ahead) + page.at.keys;
  constexpr int kNext = 4 * kPageTokens;  // bytes to the next four channels
  float* const scores = s.Scores(first, slot);
  const int64_t stride = s.Scores(first + 1, slot) - scores;
  for (int part = 0; part < kPageTokens; part += 16) {
    const int8_t* keys = page.Get<int8_t>(page.at.keys) + part * 4;
    __m256i acc[N][2];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) acc[n][0] = acc[n][1] = _mm256_set1_epi32(-128 * query_sum[n]);
    int c = 0;
    for (; c + 8 <= padded; c += 8, keys += 2 * kNext) {
      __builtin_prefetch(next);
      __builtin_prefetch(next + 64);
      next += 128;
      const __m256i k00 = LoadKeys(keys), k01 = LoadKeys(keys + 32);
      const __m256i k10 = LoadKeys(keys + kNext), k11 = LoadKeys(keys + kNext + 32);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        const int8_t* q = query + static_cast<int64_t>(n) * padded + c;
        const __m256i q0 = Broadcast4(q), q1 = Broadcast4(q + 4);
        acc[n][0] = AddProducts(acc[n][0], k00, q0, k10, q1);
        acc[n][1] = AddProducts(acc[n][1], k01, q0, k11, q1);
      }
    }
    if (c < padded) {
      const __m256i k0 = LoadKeys(keys), k1 = LoadKeys(keys + 32), none = _mm256_setzero_si256();
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        const __m256i q = Broadcast4(query + static_cast<int64_t>(n) * padded + c);
        acc[n][0] = AddProducts(acc[n][0], k0, q, none, none);
        acc[n][1] = AddProducts(acc[n][1], k1, q, none, none);
      }
    }
    const Floats s0 = Load(scale + part), s1 = Load(scale + part + 8);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      float* of_query = scores + n * stride + part;
      Store(of_query, ToFloats(reinterpret_cast<Ints>(acc[n][0])) * s0);
      Store(of_query + 8, ToFloats(reinterpret_cast<Ints>(acc[n][1])) * s1);
    }
  }
  for (int n = 0; n < N; ++n) WriteMaxima(scores + n * stride, s.Maxima(first + n, slot));
}
constexpr int kInt8Queries = 4;
#else
template <int N>
inline void TileInt8(const AttentionScratch& s, int64_t first, int padded, const PageView& page,
                     int64_t slot) {
  const int8_t* keys = page.Get<int8_t>(page.at.keys);
  const float* scale = page.Get<float>(page.at.key_scale);
  for (int64_t q = first; q < first + N; ++q) {
    const int8_t* query = reinterpret_cast<const int8_t*>(s.query) + q * padded;
    float* scores = s.Scores(q, slot);
    for (int j = 0; j < kPageTokens; ++j) {
      int32_t sum = 0;
      for (int c = 0; c < padded; ++c) {
        sum += query[c] * keys[static_cast<int64_t>(c / 4) * kPageTokens * 4 + j * 4 + c % 4];
      }
      scores[j] = static_cast<float>(sum) * scale[j];
    }
    WriteMaxima(scores, s.Maxima(q, slot));
  }
}
constexpr int kInt8Queries = 1;
#endif

// N queries against 64 fp32 keys, as many vectors of keys at a time as registers allow.
template <int N>
inline void TileF32(const AttentionScratch& s, int64_t first, int d, const PageView& page,
                    int64_t slot) {
  constexpr int kVectors = kLanes == 16 ? 4 : 2;
  const float* query = s.query + first * d;
  for (int part = 0; part < kPageTokens; part += kVectors * kLanes) {
    const float* keys = page.Get<float>(page.at.keys) + part;
    Floats acc[N][kVectors];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[n][v] = Floats{};
    }
    for (int c = 0; c < d; ++c) {
      Floats key[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) key[v] = Load(keys + c * kPageTokens + v * kLanes);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        const Floats q = Set(query[n * d + c]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) acc[n][v] += q * key[v];
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        Store(s.Scores(first + n, slot) + part + v * kLanes, Finite(acc[n][v]));
      }
    }
  }
  for (int n = 0; n < N; ++n) WriteMaxima(s.Scores(first + n, slot), s.Maxima(first + n, slot));
}
constexpr int kF32Queries = kLanes == 16 ? 6 : 4;

// One tile of `queries` query vectors from `first` on, at most kMost. `width` is the head_dim of
// TileF32 and the padded one of TileInt8.
template <KvType kType, int kMost>
inline void ScoreTile(const AttentionScratch& s, int64_t first, int64_t queries, int width,
                      const PageView& page, int64_t slot) {
  if (queries < kMost) {
    if constexpr (kMost > 1) ScoreTile<kType, kMost - 1>(s, first, queries, width, page, slot);
  } else if constexpr (kType == KvType::kF32) {
    TileF32<kMost>(s, first, width, page, slot);
  } else {
    TileInt8<kMost>(s, first, width, page, slot);
  }
}

// Scores of all queries and keys of a page. Those of int8 keys are finite only if the keys are.
// Tiles are as large as can be, since each reads the page; scores do not depend on them.
inline void ScorePage(const AttentionTask& task, const AttentionScratch& s, const PageView& page,
                      int64_t slot) {
  const int64_t queries = TaskQueries(task);
  const int d = task.args->layout.head_dim;
  if (task.args->layout.type == KvType::kF32) {
    for (int64_t q = 0; q < queries; q += kF32Queries) {
      ScoreTile<KvType::kF32, kF32Queries>(s, q, queries - q, d, page, slot);
    }
  } else {
    for (int64_t q = 0; q < queries; q += kInt8Queries) {
      ScoreTile<KvType::kI8, kInt8Queries>(s, q, queries - q, PaddedHeadDim(d), page, slot);
    }
  }
}

// Caps the scores of a query to a page, or the bounds of pages: cap * tanh(score / cap).
inline void CapScores(const AttentionTask& task, const AttentionScratch& s, int64_t query,
                      float* scores, int64_t count) {
  const float cap = task.args->score_cap;
  const Floats inward = Set(s.unit[query] / cap);
  for (int64_t i = 0; i < count; i += kLanes) {
    Store(scores + i, Tanh(Load(scores + i, count - i) * inward) * cap, count - i);
  }
}

// Makes the scores of visible keys finite (NaN counts as the lowest), those of hidden keys -inf.
// Returns how many keys of the page the query sees.
inline int64_t MaskScores(const AttentionTask& task, const AttentionScratch& s, int64_t query,
                          int64_t first_key, float* scores) {
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
    for (int j = low; j < high; ++j) scores[j] = scores[j] * s.unit[query] + bias[j];
  }
  for (int v = 0; v < kPageTokens; v += kLanes) Store(scores + v, Finite(Load(scores + v)));
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

// Returns false if a score of the page may not be finite.
inline bool OrdinaryKeys(const AttentionTask& task, const PageView& page) {
  if (task.args->layout.type == KvType::kF32) return true;  // ScorePage makes them finite
  const float* scale = page.Get<float>(page.at.key_scale);
  Ints ordinary = Load(scale) < Set(1e30f);
  for (int v = kLanes; v < kPageTokens; v += kLanes) ordinary &= Load(scale + v) < Set(1e30f);
  return MaskGreater(Floats{} - ToFloats(ordinary), Floats{}) == (1u << kLanes) - 1;
}

// The pages that all rows of a task see whole.
inline PageRange WholePages(const AttentionTask& task) {
  const AttentionArgs& a = *task.args;
  if (a.bias != nullptr || a.key_padding != nullptr) return {0, 0};
  const int64_t last_row = task.first_row + task.rows - 1;
  return {(FirstVisible(a, last_row) + kPageTokens - 1) / kPageTokens,
          EndVisible(a, task.first_row) / kPageTokens};
}

// The pages of the spans [first_span, end_span) that any row of the task sees.
inline PageRange SeenPages(const AttentionTask& task, int64_t first_span, int64_t end_span) {
  const PageRange seen = VisiblePages(*task.args, task.first_row, task.rows);
  const int64_t first = first_span * kSpanPages, end = end_span * kSpanPages;
  return {first > seen.first ? first : seen.first, end < seen.end ? end : seen.end};
}

constexpr int64_t kPagesAhead = 2;

// Computes scores and maxima of the first `count` of the `listed` pages, at most chunk_pages;
// hidden keys get -inf, others are finite. Prefetches the keys of the pages that follow. Adds the
// number of keys that query q sees to visible[q], unless null.
void ScorePages(const AttentionTask& task, const AttentionScratch& s, const int32_t* pages,
                int64_t count, int64_t listed, int64_t* visible) {
  const KvHeadLayout at = HeadLayout(task.args->layout);
  const int64_t queries = TaskQueries(task);
  const PageRange whole = WholePages(task);
  int64_t seen_by_all = 0;
  for (int64_t slot = 0; slot < count; ++slot) {
    const int64_t p = pages[slot];
    PageView page = ViewPage(task, at, p);
    const int64_t later = slot + kPagesAhead;
    if (later < listed) page.ahead = ViewPage(task, at, pages[later]).base;
    ScorePage(task, s, page, slot);
    for (int64_t q = 0; task.args->score_cap > 0 && q < queries; ++q) {
      CapScores(task, s, q, s.Scores(q, slot), kPageTokens);
      WriteMaxima(s.Scores(q, slot), s.Maxima(q, slot));
    }
    if (p >= whole.first && p < whole.end && OrdinaryKeys(task, page)) {
      seen_by_all += kPageTokens;
      continue;
    }
    for (int64_t q = 0; q < queries; ++q) {
      float* scores = s.Scores(q, slot);
      const int64_t seen = MaskScores(task, s, q, p * kPageTokens, scores);
      WriteMaxima(scores, s.Maxima(q, slot));
      if (visible != nullptr) visible[q] += seen;
    }
  }
  for (int64_t q = 0; visible != nullptr && q < queries; ++q) visible[q] += seen_by_all;
}

// Writes the numbers of a range of pages to s.pages; returns how many.
inline int64_t ListPages(const AttentionScratch& s, PageRange range) {
  int64_t count = 0;
  for (int64_t p = range.first; p < range.end; ++p) s.pages[count++] = static_cast<int32_t>(p);
  return count;
}

}  // namespace
}  // namespace lectern::kernels::internal
