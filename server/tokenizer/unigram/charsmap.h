// SentencePiece's precompiled character map: a trie from short texts to their replacements, in
// which its models store their normalisation (NFKC and more).
//
// Layout: the trie's bytes as uint32, the trie (a double array as Darts-clone writes it), and the
// replacements, each terminated by a zero byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/text/aligned_text.h"

namespace lectern {

// Immutable, thread-safe.
class Charsmap {
 public:
  // Replaces nothing.
  Charsmap() = default;
  // Visits every path through the trie once. INVALID_ARGUMENT with the fault, without a file name,
  // if a path leaves the array or is circular, if keys or replacements are longer than
  // tokenizer_limits.h allows, or if a replacement is not UTF-8.
  static absl::StatusOr<Charsmap> Create(std::string_view bytes);

  struct Match {
    size_t length = 0;  // of the longest key at the start of the text; 0: none
    std::string_view replacement;
  };
  // `text` is well-formed; the match ends on a boundary of its characters.
  Match LongestPrefix(std::string_view text) const;

  AlignedText Apply(const AlignedText& text) const;

 private:
  absl::Status Check(uint32_t base, size_t depth, std::vector<uint8_t>& heights) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace lectern
