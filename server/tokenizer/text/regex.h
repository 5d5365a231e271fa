// Regular expressions of tokenizers, matched by PCRE2.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lectern {

// Immutable, thread-safe.
class Regex {
 public:
  // A pattern as tokenizer.json has it. White space (\s) means Unicode's White_Space, as in Rust
  // and Python: PCRE2's \s lacks U+0085. INVALID_ARGUMENT with PCRE2's message and the position in
  // the pattern if it does not compile.
  static absl::StatusOr<std::unique_ptr<const Regex>> Create(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls `piece(begin, end, matched)` for consecutive pieces that cover `text` (well-formed
  // UTF-8): the matches, which are not empty, and the texts between them. A search that exceeds
  // PCRE2's limits ends the matching, so that the rest of the text is one piece.
  template <typename Piece>
  void ForEach(std::string_view text, Piece piece) const {
    size_t at = 0;
    Searcher searcher(*this);
    for (size_t begin = 0, end = 0; at < text.size() && searcher.Next(text, at, begin, end);) {
      if (begin > at) piece(at, begin, false);
      piece(begin, end, true);
      at = end;
    }
    if (at < text.size()) piece(at, text.size(), false);
  }

 private:
  struct Code;
  class Searcher {
   public:
    explicit Searcher(const Regex& regex);
    ~Searcher();
    Searcher(const Searcher&) = delete;
    Searcher& operator=(const Searcher&) = delete;
    // The first match of at least one byte that begins at or after `at`; false if there is none.
    bool Next(std::string_view text, size_t at, size_t& begin, size_t& end);

   private:
    const Code& code_;
    void* data_;  // pcre2_match_data
  };

  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

}  // namespace lectern
