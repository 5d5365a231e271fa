// Merges neighbouring symbols for byte-pair encoding, best rank first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace lectern {

// A token and the bytes of the word that it covers.
struct BpeSymbol {
  int32_t id = -1;
  uint32_t begin = 0;
  uint32_t end = 0;
};

// Immutable after filling, thread-safe.
class BpeMerges {
 public:
  void Reserve(size_t merges) { merges_.reserve(merges); }
  // `left` followed by `right` may become `merged`; smaller ranks go first. False for a repeated
  // pair.
  bool Add(int32_t left, int32_t right, int32_t merged, int32_t rank);

  // Merges the symbols of one word in place, in time n log n; of equal ranks the leftmost goes
  // first.
  void Apply(std::vector<BpeSymbol>& symbols) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t merged;
  };
  const Merge* Find(int32_t left, int32_t right) const;

  absl::flat_hash_map<uint64_t, Merge> merges_;
};

}  // namespace lectern
