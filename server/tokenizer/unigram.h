// The unigram tokeniser (Kudo 2018, arXiv 1804.10959) as SentencePiece writes it and T5 reads it:
// the sequence of pieces whose scores add up to most.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// What a vocabulary file says, whichever format it came in.
struct UnigramConfig {
  struct Piece {
    enum class Type { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };
    std::string text;  // white space as U+2581
    float score = 0;
    Type type = Type::kNormal;
  };
  std::vector<Piece> pieces;  // index = id
  int32_t unknown_id = -1;
  int32_t eos_id = -1;
  std::string char_map;                  // char_map.h
  bool add_dummy_prefix = true;          // a text begins with white space
  bool remove_extra_whitespaces = true;  // none at the ends, never two in a row
  bool byte_fallback = false;            // unknown characters become their bytes' pieces
  std::string source;                    // named in error messages
};

// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (no pieces,
// duplicates, no unknown piece, scores that are no numbers, more than 2^22 pieces, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewUnigram(UnigramConfig config);

}  // namespace lectern
