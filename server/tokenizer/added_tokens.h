// Tokens that are found in a text as they are written, before it is normalised.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/tokenizer/text/piece_trie.h"

namespace lectern {

// A token in addition to a model's pieces, matched in the original text before anything else: a
// special one on request, any other always. Its id may be that of a piece of the same text.
struct AddedToken {
  std::string text;
  int32_t id = -1;
  bool special = true;
  // Rules of Hugging Face's tokenizers, which BPE follows (bpe/bpe.h): white space before or after
  // the token belongs to it; it is no token between letters, numbers and underscores.
  bool takes_space_before = false;
  bool takes_space_after = false;
  bool single_word = false;
  // The token is found in the normalised text, after those that are not, and is normalised itself.
  bool normalized = false;
  bool in_vocabulary = true;  // the model's vocabulary has it, too: a text may be merged to it
};

// Immutable, thread-safe.
class AddedTokens {
 public:
  AddedTokens() = default;
  // Non-empty texts with their ids.
  explicit AddedTokens(std::vector<std::pair<std::string_view, int32_t>> tokens)
      : trie_(std::move(tokens)) {}

  bool empty() const { return trie_.empty(); }

  // Divides `text`, from left to right, into tokens (id >= 0, the longest match wins) and the texts
  // between them (id -1, not empty).
  template <typename Part>
  void Cut(std::string_view text, Part part) const {
    size_t plain = 0;
    for (size_t at = 0; !trie_.empty() && at < text.size();) {
      const auto [length, id] = trie_.Longest(text.substr(at));
      if (length == 0) {
        ++at;
        continue;
      }
      if (at > plain) part(plain, at, -1);
      part(at, at + length, id);
      plain = at += length;
    }
    if (plain < text.size()) part(plain, text.size(), -1);
  }

 private:
  PieceTrie trie_;
};

}  // namespace lectern
