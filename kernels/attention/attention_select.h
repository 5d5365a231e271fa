// Selection: the candidates of one query, pruned and finally cut to the k best. Include it as
// simd.h.
//
// Order is (score descending, index ascending). Candidates are always held by ascending index, so
// "the first ones that equal the threshold" are the right ones among ties.
#pragma once

#include "kernels/attention/attention_task.h"
#include "kernels/runtime/simd.h"

namespace lectern::kernels::internal {
namespace {

// Pads the scores after `count` with -inf to a whole vector.
inline void PadScores(Candidates& c) {
  for (int64_t i = c.count; i < c.count + kLanes; ++i) c.score[i] = -kInfinity;
}

// Bit j: scores[j] >= bound, for 64 scores.
inline uint64_t ReachingKeys(const float* scores, Floats bound) {
  uint64_t mask = 0;
  for (int v = 0; v < kPageTokens; v += kLanes) {
    mask |= static_cast<uint64_t>(MaskGreaterEqual(Load(scores + v), bound)) << v;
  }
  return mask;
}

// Equals ReachingKeys(), but looks at the maxima of the groups first, few of which reach the bound.
inline uint64_t ReachingKeysOfPage(const float* scores, const float* maxima, float bound) {
  const Floats b = Set(bound);
#if !defined(LECTERN_ISA_AVX512)
  uint32_t groups = 0;
  for (int g = 0; g < kGroupsPerPage; g += kLanes) {
    groups |= MaskGreaterEqual(Load(maxima + g), b) << g;
  }
  constexpr int kFewGroups = 3;
  if (__builtin_popcount(groups) <= kFewGroups) {
    uint64_t mask = 0;
    for (; groups != 0; groups &= groups - 1) {
      for (int j = __builtin_ctz(groups); j < kPageTokens; j += kGroupsPerPage) {
        mask |= static_cast<uint64_t>(scores[j] >= bound) << j;
      }
    }
    return mask;
  }
#endif
  return ReachingKeys(scores, b);
}

// The smallest float that is larger than a finite one.
inline float Above(float x) { return FromOrderedKey(x == 0.0f ? 1 : OrderedKey(x) + 1); }

// Counts the floats that reach `bound`; the padding after `count`, up to a whole vector, must not.
inline int64_t CountReaching(const float* x, int64_t count, float bound) {
  const Floats b = Set(bound);
  int64_t n = 0;
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) n += __builtin_popcountll(ReachingKeys(x + i, b));
  for (; i < count; i += kLanes) n += __builtin_popcount(MaskGreaterEqual(Load(x + i), b));
  return n;
}

// A range of floats around the k-th largest of a set: at_low >= k of them reach low, at_high < k
// reach high.
struct Bracket {
  float low, high;
  int64_t at_low, at_high;
};

// Narrows the bracket until at most `enough` reach low, or no float lies between low and high.
inline void Narrow(Bracket& b, const float* x, int64_t count, int64_t k, int64_t enough) {
  for (int step = 0; b.at_low > enough; ++step) {
    const int64_t low = OrderedKey(b.low), high = OrderedKey(b.high);
    if (high - low <= 1) return;
    // Scores thin out evenly enough to guess from the counts; every third step halves the distance
    // in bits, which ends whatever the scores are.
    float middle = FromOrderedKey(static_cast<int32_t>(low + (high - low) / 2));
    if (step % 3 != 2) {
      const float wanted = static_cast<float>(b.at_low) - 0.5f * static_cast<float>(k + enough);
      const float share = wanted / static_cast<float>(b.at_low - b.at_high);
      const float least = 1.0f / 16, most = 15.0f / 16;
      const float guess = share < least ? least : share > most ? most : share;
      const float between = b.low * (1.0f - guess) + b.high * guess;
      if (between > b.low && between < b.high) middle = between;
    }
    const int64_t n = CountReaching(x, count, middle);
    if (n >= k) {
      b.low = middle;
      b.at_low = n;
    } else {
      b.high = middle;
      b.at_high = n;
    }
  }
}

// Cuts the candidates to those that reach `bound`; of those that equal it only the first
// `ties_left` stay.
inline void Cut(Candidates& c, float bound, int64_t ties_left) {
  int64_t kept = 0;
  const Floats b = Set(bound);
  for (int64_t i = 0; i < c.count; i += kLanes) {
    const Floats x = Load(c.score + i);
    const Ints index = LoadInts(c.index + i);
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
    CompressStoreInts(c.index + kept, mask, index);
    kept += CompressStore(c.score + kept, mask, x);
  }
  c.count = kept;
}

// Drops candidates that cannot be among the k best; at least k and, unless `exact`, at most about
// k + slack stay; with `exact` just k. Needs count > k.
void Prune(Candidates& c, int64_t k, bool exact) {
  PadScores(c);
  Floats largest = Load(c.score), smallest = Set(kInfinity);
  for (int64_t i = 0; i < c.count; i += kLanes) {
    const Floats x = Load(c.score + i);
    largest = Max(x, largest);
    const Floats finite = x > Set(-kInfinity) ? x : Set(kInfinity);
    smallest = finite < smallest ? finite : smallest;
  }
  const int64_t enough = exact ? k : k + k / 4 + 8;
  Bracket b = {-LargestLane(-smallest), Above(LargestLane(largest)), c.count, 0};
  Narrow(b, c.score, c.count, k, enough);
  // Either the bound's own ties must be cut, or all of them stay.
  int64_t ties_left = INT64_MAX;
  if (b.at_low > enough) ties_left = k - CountReaching(c.score, c.count, Above(b.low));
  Cut(c, b.low, ties_left);
  c.threshold = b.low;
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
  const int64_t groups = rows * kGroupsPerPage;
  Floats largest = Set(-kInfinity), smallest = Set(kInfinity);
  for (int64_t i = 0; i < groups; i += kLanes) {
    Floats x = Load(maxima + i);
    for (int64_t j = i + groups; j < pages * kGroupsPerPage; j += groups) {
      x = Max(Load(maxima + j), x);
    }
    Store(merged + i, x);
    largest = Max(x, largest);
    smallest = x < smallest ? x : smallest;
  }
  Bracket b = {-LargestLane(-smallest), LargestLane(largest), groups, 0};
  if (!(b.low >= -kLargest)) {  // some groups see no key
    b.low = -kLargest;
    b.at_low = CountReaching(merged, groups, b.low);
    if (b.at_low < k) return b.low;
  }
  b.high = Above(b.high);
  Narrow(b, merged, groups, k, k + k / 8);
  return b.low;
}

// Appends those of 64 keys whose bits are set.
inline void Append(Candidates& c, uint64_t keys, int32_t first_key, const float* scores) {
#if defined(LECTERN_ISA_AVX512)
  const Ints lanes = LaneNumbers() + first_key;
  int64_t count = c.count;
#pragma GCC unroll 4
  for (int v = 0; v < kPageTokens; v += kLanes) {
    const uint32_t mask = static_cast<uint32_t>(keys >> v) & 0xFFFF;
    CompressStoreInts(c.index + count, mask, lanes + v);
    count += CompressStore(c.score + count, mask, Load(scores + v));
  }
  c.count = count;
#else
  for (; keys != 0; keys &= keys - 1) {
    const int j = __builtin_ctzll(keys);
    c.score[c.count] = scores[j];
    c.index[c.count++] = first_key + j;
  }
#endif
}

// Adds the keys of a chunk that may be among the k best to the candidates. `page` holds the numbers
// of the chunk's pages.
void Absorb(Candidates& c, int64_t k, const int32_t* page, int64_t pages, const float* scores,
            const float* maxima, float* merged) {
  if (c.count > k) Prune(c, k, false);
  float least = ChunkBound(maxima, pages, k, merged);
  // Equal scores keep the key seen first.
  const auto raise = [&] {
    if (c.threshold > -kInfinity && Above(c.threshold) > least) least = Above(c.threshold);
  };
  raise();
  for (int64_t p = 0; p < pages; ++p) {
    const float* of_page = scores + p * kPageTokens;
    const uint64_t keys = ReachingKeysOfPage(of_page, maxima + p * kGroupsPerPage, least);
    if (keys == 0) continue;
    Append(c, keys, page[p] * kPageTokens, of_page);
    if (c.count > Capacity(k) - kPageTokens - kLanes) {
      Prune(c, k, false);
      raise();
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::internal
