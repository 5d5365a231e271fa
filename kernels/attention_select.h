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

inline int64_t CountAtLeast(const Candidates& c, float bound) {
  const Vec b = Set(bound);
  int64_t n = 0;
  for (int64_t i = 0; i < c.count; i += kWidth) {
    n += __builtin_popcount(MaskGreaterEqual(Load(c.score + i), b));
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
    const int64_t n = CountAtLeast(c, FromOrderedKey(static_cast<int32_t>(middle)));
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

// Takes the scores of one page in.
inline void Absorb(Candidates& c, int64_t k, int64_t first_key, const float* scores) {
  const Vec threshold = Set(c.threshold);
  const IntVec lanes = LaneNumbers();
  for (int v = 0; v < kPageTokens; v += kWidth) {
    const Vec x = Load(scores + v);
    const uint32_t mask = MaskGreater(x, threshold);
    if (mask == 0) continue;
    CompressStoreInt(c.index + c.count, mask, lanes + static_cast<int32_t>(first_key + v));
    c.count += CompressStore(c.score + c.count, mask, x);
  }
  if (c.count > Capacity(k) - kPageTokens - kWidth) Prune(c, k, false);
}

}  // namespace
}  // namespace lectern::kernels::internal
