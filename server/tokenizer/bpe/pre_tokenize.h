// Divides a text into the pieces within which tokens are merged.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/tokenizer/bpe/byte_level_bpe.h"

namespace lectern {

// Immutable, thread-safe.
class PreTokenize {
 public:
  static absl::StatusOr<std::unique_ptr<PreTokenize>> Create(PreTokenizer kind);
  ~PreTokenize();

  // Calls `piece(begin, end)` for consecutive pieces that cover `text` (well-formed UTF-8).
  void Cut(std::string_view text, const std::function<void(size_t, size_t)>& piece) const;

 private:
  struct Pattern;
  PreTokenize();
  void CutWords(std::string_view text, size_t base,
                const std::function<void(size_t, size_t)>& piece) const;

  std::unique_ptr<Pattern> numbers_;  // null: numbers are not separated
  std::unique_ptr<Pattern> words_;    // null: the text is one piece
};

}  // namespace lectern
