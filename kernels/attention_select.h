// Selection: the candidates of one query, pruned and finally cut to the k best. Included like
// attention_simd.h.
//
// Order is (score descending, index ascending). Candidates are always held by ascending index, so
// "the first ones that equal the threshold" are the right ones among ties.
#pragma once

#include "kernels/attention_isa.h"
#include "kernels/attention_simd.h"

namespace lectern::kernels::internal {
namespace {

// Floats and integers in the same order, for bisection.
inline int32_t OrderedKey(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
inline float FromOrderedKey(int32_t key) {
  const int32_t bits = key >= 0 ? key : key ^ 0x7fffffff;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Scores are padded with -inf to a whole vector behind count.
inline void PadScores(Candidates& c) {
  for (int64_t i = c.count; i < c.count + kWidth; ++i) c.score[i] = -kInfinity;
}

// How many of `count` floats reach `bound`; behind them, up to a whole vector, there must be none.
inline int64_t CountReaching(const float* x, int64_t count, float bound) {
  const Vec b = Set(bound);
  int64_t n = 0;
  for (int64_t i = 0; i < count; i += kWidth) {
    n += __builtin_popcount(MaskGreaterEqual(Load(x + i), b));
  }
  return n;
}

// Drops candidates that cannot be among the k best; at least k and, unless `exact`, at most about
// k + slack stay; with `exact` just k. Needs count > k.
void Prune(Candidates& c, int64_t k, bool exact) {
  PadScores(c);
  Vec largest = Load(c.score), smallest = Set(kInfinity);
  for (int64_t i = 0; i < c.count; i += kWidth) {
    const Vec x = Load(c.score + i);
    largest = Max(x, largest);
    const Vec finite = x > Set(-kInfinity) ? x : Set(kInfinity);
    smallest = finite < smallest ? finite : smallest;
  }
  // Invariant: at least k are >= low, fewer than k are >= high.
  int64_t low = OrderedKey(-LargestLane(-smallest));
  int64_t high = static_cast<int64_t>(OrderedKey(LargestLane(largest))) + 1;
  const int64_t slack = exact ? 0 : k / 4 + 8;
  int64_t at_least_low = c.count;
  while (high - low > 1 && at_least_low > k + slack) {
    // Halve by value while the two are far apart in bits: scores are spread evenly, bit patterns
    // not.
    const float a = FromOrderedKey(static_cast<int32_t>(low));
    const float b = FromOrderedKey(static_cast<int32_t>(high - 1));
    int64_t middle = OrderedKey(a * 0.5f + b * 0.5f);
    if (middle <= low || middle >= high) middle = low + (high - low) / 2;
    const int64_t n = CountReaching(c.score, c.count, FromOrderedKey(static_cast<int32_t>(middle)));
    if (n >= k) {
      low = middle;
      at_least_low = n;
    } else {
      high = middle;
    }
  }
  const float bound = FromOrderedKey(static_cast<int32_t>(low));
  // Either the bound's own ties must be cut, or all of them stay.
  int64_t ties_left = INT64_MAX;
  if (at_least_low > k + slack) {
    int64_t above = 0;
    for (int64_t i = 0; i < c.count; i += kWidth) {
      above += __builtin_popcount(MaskGreater(Load(c.score + i), Set(bound)));
    }
    ties_left = k - above;
  }
  int64_t kept = 0;
  const Vec b = Set(bound);
  for (int64_t i = 0; i < c.count; i += kWidth) {
    const Vec x = Load(c.score + i);
    const IntVec index = LoadInt(c.index + i);
    uint32_t mask = MaskGreaterEqual(x, b);
    if (ties_left != INT64_MAX) {
      uint32_t ties = mask & ~MaskGreater(x, b);
      for (; ties != 0; ties &= ties - 1) {
        if (ties_left > 0) {
          --ties_left;
        } else {
          mask &= ~(ties & -ties);
        }
      }
    }
    CompressStoreInt(c.index + kept, mask, index);
    kept += CompressStore(c.score + kept, mask, x);
  }
  c.count = kept;
  c.threshold = bound;
}

// A score that at least k keys of a chunk reach, -kLargest if none is found: the k-th largest of
// the maxima of disjoint groups of keys cannot exceed the k-th largest score. Groups are merged
// until there are about 4 k (more make the bound worse, fewer too); merged groups lie far apart,
// because large scores are found side by side. `merged` is scratch.
inline float ChunkBound(const float* maxima, int64_t pages, int64_t k, float* merged) {
  if (pages * kGroupsPerPage < k) return -kLargest;
  int64_t fold = pages * kGroupsPerPage / (4 * k);
  if (fold < 1) fold = 1;
  const int64_t rows = (pages + fold - 1) / fold;
  Vec largest = Set(-kInfinity), smallest = Set(kInfinity);
  for (int64_t i = 0; i < rows * kGroupsPerPage; i += kWidth) {
    Vec x = Load(maxima + i);
    for (int64_t j = i + rows * kGroupsPerPage; j < pages * kGroupsPerPage;
         j += rows * kGroupsPerPage) {
      x = Max(Load(maxima + j), x);
    }
    Store(merged + i, x);
    largest = Max(x, largest);
    smallest = x < smallest ? x : smallest;
  }
  const int64_t groups = rows * kGroupsPerPage;
  // Invariant: at least k groups reach `low`.
  float low = -LargestLane(-smallest), high = LargestLane(largest);
  if (!(low >= -kLargest)) {  // some groups see no key
    low = -kLargest;
    if (CountReaching(merged, groups, low) < k) return low;
  }
  for (int step = 0; step < 24; ++step) {
    const float middle = low * 0.5f + high * 0.5f;
    if (!(middle > low) || !(middle < high)) break;
    const int64_t n = CountReaching(merged, groups, middle);
    if (n < k) {
      high = middle;
    } else {
      low = middle;
      if (n <= k + k / 8) break;
    }
  }
  return low;
}

// Bit j: scores[j] >= bound, for the 64 scores of a page.
inline uint64_t ReachingKeys(const float* scores, Vec bound) {
  uint64_t mask = 0;
  for (int v = 0; v < kPageTokens; v += kWidth) {
    mask |= static_cast<uint64_t>(MaskGreaterEqual(Load(scores + v), bound)) << v;
  }
  return mask;
}

// The next float above a finite one.
inline float Above(float x) { return FromOrderedKey(OrderedKey(x) + 1); }

// Takes those keys of a chunk in that may be among the k best.
void Absorb(Candidates& c, int64_t k, int64_t first_key, const float* scores, const float* maxima,
            int64_t pages, float* merged) {
  if (c.count > k) Prune(c, k, false);
  float least = ChunkBound(maxima, pages, k, merged);
  // Keys seen before win against equal ones.
  const auto raise = [&] {
    if (c.threshold > -kInfinity && Above(c.threshold) > least) least = Above(c.threshold);
  };
  raise();
  Vec bound = Set(least);
  for (int64_t p = 0; p < pages; ++p) {
    const float* of_page = scores + p * kPageTokens;
    for (uint64_t keys = ReachingKeys(of_page, bound); keys != 0; keys &= keys - 1) {
      const int j = __builtin_ctzll(keys);
      c.score[c.count] = of_page[j];
      c.index[c.count++] = static_cast<int32_t>(first_key + p * kPageTokens + j);
    }
    if (c.count > Capacity(k) - kPageTokens - kWidth) {
      Prune(c, k, false);
      raise();
      bound = Set(least);
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::internal
