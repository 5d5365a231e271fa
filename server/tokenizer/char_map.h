// SentencePiece's precompiled character map (Kudo and Richardson 2018, arXiv 1808.06226,
// section 3.1): replacements for character sequences, in a double-array trie that the vocabulary
// file brings. Treated as hostile: every step through the trie is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lectern {

// Immutable, thread-safe.
class CharMap {
 public:
  CharMap() = default;  // replaces nothing

  // `blob`: size of the trie in bytes (uint32, little-endian), the trie, and the replacements, each
  // ended by a zero byte; empty for none. INVALID_ARGUMENT if the sizes do not fit. Holds a copy.
  static absl::StatusOr<CharMap> Parse(std::string_view blob);

  // The longest sequence at the beginning of `text` that has a replacement: its length, and what it
  // becomes; 0 if there is none.
  struct Match {
    size_t length = 0;
    std::string_view replacement;  // valid as long as the map
  };
  Match LongestAt(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace lectern
