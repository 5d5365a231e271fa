// WordPiece (Schuster and Nakajima 2012) as BERT uses it (Devlin et al. 2018, arXiv 1810.04805):
// divides words into the longest pieces of a vocabulary, from the left.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"
#include "server/tokenizer/word_piece/bert_text.h"

namespace lectern {

// The contents of a vocabulary file, in any format.
struct WordPieceConfig {
  std::vector<std::string> tokens;   // index = id; empty: an id without a token
  std::vector<int32_t> special_ids;  // recognised in text on request; decode to nothing
  int32_t unk_id = -1;               // for words that the pieces do not cover
  int32_t eos_id = -1;
  std::string prefix = "##";    // of pieces that continue a word
  size_t max_word_chars = 100;  // longer words are unknown
  bool cleanup = true;          // decoded text has no blanks before punctuation
  BertRules rules;
  std::string source;  // named in error messages
};

// Encode adds no [CLS] or [SEP].
//
// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (duplicate
// tokens, ids out of range, more than tokenizer_limits.h allows, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewWordPiece(WordPieceConfig config);

}  // namespace lectern
