// Chooses the pages that a row reads from the bounds of their keys. Include it as simd.h.
//
// Keys of a page lie between low and high in every channel, so no score of query q there exceeds
//   sum_c max(q_c high_c, q_c low_c)
// (Quest, Tang et al. 2024, arXiv 2406.10774, section 3.2). Bounds are in the units of the scores
// and a little higher than the sum, to allow for rounding of the sum and of a score.
#pragma once

#include "kernels/attention/attention_scores.h"
#include "kernels/attention/attention_select.h"
#include "kernels/attention/attention_task.h"
#include "kernels/runtime/simd.h"

namespace lectern::kernels::internal {
namespace {

// The queries as numbers: those of int8 rows are the integers that are multiplied.
inline void WritePlainQueries(const AttentionTask& task, const AttentionScratch& s) {
  const int d = task.args->layout.head_dim;
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    for (int c = 0; c < d; ++c) {
      if (task.args->layout.type == KvType::kF32) {
        s.plain_query[q * d + c] = s.query[q * d + c];
        continue;
      }
#if defined(LECTERN_ISA_AVX512)
      const uint8_t* row = reinterpret_cast<const uint8_t*>(s.query) + q * PaddedHeadDim(d);
      s.plain_query[q * d + c] = static_cast<float>(row[c]) - 128.0f;
#else
      const int8_t* row = reinterpret_cast<const int8_t*>(s.query) + q * PaddedHeadDim(d);
      s.plain_query[q * d + c] = static_cast<float>(row[c]);
#endif
    }
  }
}

// Integers below 2^24 throughout: the sum is exact.
inline float BoundInt8(const float* query, int d, const PageView& page) {
  const int8_t* high = page.Get<int8_t>(page.at.key_high);
  const int8_t* low = page.Get<int8_t>(page.at.key_low);
  Floats sum = {};
  int c = 0;
  for (; c + kLanes <= d; c += kLanes) {
    const Floats q = Load(query + c);
    sum += Max(q * LoadInt8(high + c), q * LoadInt8(low + c));
  }
  float total = SumPairwise(sum);
  for (; c < d; ++c) {
    const float up = query[c] * static_cast<float>(high[c]);
    const float down = query[c] * static_cast<float>(low[c]);
    total += up > down ? up : down;
  }
  const float bound = total * *page.Get<float>(page.at.key_unit);
  return bound + __builtin_fabsf(bound) * 1e-6f;
}

// A score and the sum here err by at most d 2^-24 times the sum of magnitudes each (Higham 2002,
// eq. 3.5).
inline float BoundF32(const float* query, int d, const PageView& page) {
  const float* high = page.Get<float>(page.at.key_high);
  const float* low = page.Get<float>(page.at.key_low);
  float sum = 0, magnitudes = 0;
  for (int c = 0; c < d; ++c) {
    const float up = query[c] * high[c], down = query[c] * low[c];
    sum += up > down ? up : down;
    const float a = __builtin_fabsf(up), b = __builtin_fabsf(down);
    magnitudes += a > b ? a : b;
  }
  return sum + magnitudes * static_cast<float>(d + 8) * 2.4e-7f;
}

// Bounds become those of capped scores, a little higher to allow for the rounding of tanh; +inf
// stays.
inline void CapBounds(const AttentionTask& task, const AttentionScratch& s, int64_t query,
                      float* bounds, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (bounds[i] == kInfinity) continue;
    CapScores(task, s, query, bounds + i, 1);
    bounds[i] += __builtin_fabsf(bounds[i]) * 1e-6f;
  }
}

// Bounds of the listed pages for every query; +inf for a page that the row does not see whole.
void BoundPages(const AttentionTask& task, const AttentionScratch& s, int64_t count) {
  WritePlainQueries(task, s);
  const KvHeadLayout at = HeadLayout(task.args->layout);
  const int d = task.args->layout.head_dim;
  const PageRange whole = WholePages(task);
  constexpr int64_t kAhead = 8;
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      const std::byte* ahead = ViewPage(task, at, s.pages[i + kAhead]).base;
      __builtin_prefetch(ahead + at.key_high);
      __builtin_prefetch(ahead + at.key_low);
      __builtin_prefetch(ahead + at.key_unit);
    }
    const PageView page = ViewPage(task, at, s.pages[i]);
    const bool bounded = s.pages[i] >= whole.first && s.pages[i] < whole.end;
    for (int64_t q = 0; q < TaskQueries(task); ++q) {
      const float* query = s.plain_query + q * d;
      float bound = kInfinity;
      if (bounded) {
        bound = task.args->layout.type == KvType::kF32 ? BoundF32(query, d, page)
                                                       : BoundInt8(query, d, page);
      }
      s.page_bound[q * count + i] = bound == bound ? bound : kInfinity;
    }
  }
  for (int64_t q = 0; task.args->score_cap > 0 && q < TaskQueries(task); ++q) {
    CapBounds(task, s, q, s.page_bound + q * count, count);
  }
}

// Ranks pages by the bound that comes nearest to the best one of its query, as a score.
inline void RankPages(const AttentionTask& task, const AttentionScratch& s, int64_t count) {
  for (int64_t i = 0; i < count; ++i) s.page_rank[i] = -kInfinity;
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    const float* bound = s.page_bound + q * count;
    const float unit = ScoreUnit(task, s, q);
    float best = -kInfinity;
    for (int64_t i = 0; i < count; ++i) {
      if (bound[i] > best && bound[i] < kInfinity) best = bound[i];
    }
    for (int64_t i = 0; i < count; ++i) {
      const float rank = bound[i] < kInfinity ? (bound[i] - best) * unit : kInfinity;
      s.page_rank[i] = rank > s.page_rank[i] ? rank : s.page_rank[i];
    }
  }
}

// Moves the `wanted` pages of highest rank to the front of s.pages, ascending, as well as those of
// infinite rank; among equals the first. Returns how many. The ranks are used up.
inline int64_t KeepBestPages(const AttentionScratch& s, int64_t count, int64_t wanted) {
  int64_t finite = 0;
  for (int64_t i = 0; i < count; ++i) finite += s.page_rank[i] < kInfinity ? 1 : 0;
  if (finite <= wanted) return count;
  // Bisection over the floats in order: at least `wanted` reach low, fewer reach high.
  int64_t low = OrderedKey(-kLargest), high = OrderedKey(kInfinity);
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    const float bound = FromOrderedKey(static_cast<int32_t>(middle));
    int64_t reaching = 0;
    for (int64_t i = 0; i < count; ++i) {
      reaching += s.page_rank[i] >= bound && s.page_rank[i] < kInfinity ? 1 : 0;
    }
    (reaching >= wanted ? low : high) = middle;
  }
  const float bound = FromOrderedKey(static_cast<int32_t>(low));
  int64_t ties = wanted;
  for (int64_t i = 0; i < count; ++i) {
    ties -= s.page_rank[i] > bound && s.page_rank[i] < kInfinity ? 1 : 0;
  }
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    const bool tie = s.page_rank[i] == bound;
    if (s.page_rank[i] > bound || (tie && ties-- > 0)) s.pages[kept++] = s.pages[i];
  }
  return kept;
}

// The k-th score of every query over a few listed pages, a lower bound of its k-th over all; in
// candidates[q].threshold, which are empty afterwards.
inline void ThresholdsOf(const AttentionTask& task, const AttentionScratch& s, int64_t k,
                         int64_t count, Candidates* candidates) {
  const int64_t chunk = count < task.chunk_pages ? count : task.chunk_pages;
  ScorePages(task, s, s.pages, chunk, chunk, nullptr);
  for (int64_t q = 0; q < TaskQueries(task); ++q) {
    Candidates& c = candidates[q];
    Absorb(c, k, s.pages, chunk, s.Scores(q, 0), s.Maxima(q, 0), s.merged);
    if (c.count > k) Prune(c, k, true);
    PadScores(c);
    float least = kInfinity;
    for (int64_t i = 0; i < c.count; ++i) least = c.score[i] < least ? c.score[i] : least;
    c.threshold = c.count < k ? -kInfinity : least;
    c.count = 0;
  }
}

// Cuts s.pages, all `count` pages that the row sees, to those it reads; returns how many.
int64_t ChoosePages(const AttentionTask& task, const AttentionScratch& s, const TopKParams& params,
                    int64_t count, Candidates* candidates) {
  BoundPages(task, s, count);
  if (params.page_budget > 0) {
    RankPages(task, s, count);
    if (count > 0) {
      // Attention sinks: the first keys of a document hold much of the mass of many heads (Xiao et
      // al. 2023, arXiv 2309.17453). The first keys of a window do not.
      if (s.pages[0] == 0) s.page_rank[0] = kInfinity;
      s.page_rank[count - 1] = kInfinity;
    }
    return KeepBestPages(s, count, params.page_budget);
  }
  // No loss: score the most promising pages, then all whose bound reaches what was found there.
  RankPages(task, s, count);
  const int64_t first = s.pages[0];
  const int64_t promising = 2 * params.k / kPageTokens + 4;
  ThresholdsOf(task, s, params.k, KeepBestPages(s, count, promising), candidates);
  int64_t kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    bool read = false;
    for (int64_t q = 0; q < TaskQueries(task); ++q) {
      read |= !(s.page_bound[q * count + i] < candidates[q].threshold);
    }
    if (read) s.pages[kept++] = static_cast<int32_t>(first + i);
  }
  for (int64_t q = 0; q < TaskQueries(task); ++q) candidates[q].threshold = -kInfinity;
  return kept;
}

}  // namespace
}  // namespace lectern::kernels::internal
