// WordPiece as BERT uses it (Devlin et al. 2019, arXiv 1810.04805; Schuster and Nakajima 2012):
// words and punctuation, lower-cased and without accents if so trained, cut into the longest pieces
// that the vocabulary has.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// What a vocabulary file says, whichever format it came in.
struct WordPieceConfig {
  std::vector<std::string> tokens;  // index = id; a piece inside a word begins with "##"
  bool lower_case = true;
  bool strip_accents = true;
  bool split_chinese = true;            // every CJK ideograph is a word
  std::string unknown = "[UNK]";        // a word that has no pieces
  std::vector<std::string> special = {  // those of them that the vocabulary has
      "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  std::string source;  // named in error messages
};

// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (duplicates,
// no unknown token, more than 2^22 tokens, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewWordPiece(WordPieceConfig config);

}  // namespace lectern
