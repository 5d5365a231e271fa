// SentencePiece's unigram language model (Kudo 2018, arXiv 1804.10959): of all ways to put a text
// together from pieces, the one with the best sum of log-probabilities.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

enum class PieceType {
  kNormal,
  kUnknown,      // what no piece covers; one a vocabulary
  kControl,      // special: recognised in text when asked for, silent when decoded
  kUserDefined,  // always taken when it stands in the text, before normalisation too
  kUnused,       // has an id, but no text becomes it
  kByte,         // "<0x41>", for byte_fallback
};

struct UnigramPiece {
  std::string text;
  double score = 0;
  PieceType type = PieceType::kNormal;
};

// A token beside the pieces, found in the original text before anything else: a special one when
// asked for, any other always. Its id may be that of a piece of the same text.
struct AddedToken {
  std::string text;
  int32_t id = -1;
  bool special = true;
};

// How the fast tokenizers of Hugging Face normalise and cut; what tokenizer.json says.
struct MetaspaceRules {
  struct Step {
    enum Kind { kCharsmap, kLowercase, kStrip, kReplace, kReplaceBlanks } kind;
    bool left = true, right = true;  // kStrip
    std::string pattern, by;         // kReplace; `by` also of kReplaceBlanks (two or more)
  };
  enum class Prefix { kAlways, kFirst, kNever };

  std::vector<Step> steps;
  bool split_at_spaces = false;     // white space separates words and is dropped
  Prefix prefix = Prefix::kAlways;  // which words get U+2581 in front
  bool split_at_prefix = true;      // no piece reaches across the beginning of a word
};

// What a vocabulary file says, whichever format it came in.
struct UnigramConfig {
  std::vector<UnigramPiece> pieces;  // index = id; ids of added tokens may follow
  std::vector<AddedToken> added;
  int32_t unk_id = 0;
  int32_t eos_id = -1;
  int32_t pad_id = -1;
  std::string charsmap;  // precompiled (charsmap.h); empty: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;              // blanks become U+2581
  bool byte_fallback = false;                  // unknown characters become kByte pieces
  std::string unk_surface = " \xe2\x81\x87 ";  // what the unknown token decodes to
  // Set: these rules instead of SentencePiece's own, and sums in double precision. Not set:
  // SentencePiece's, and its single precision, on which the choice between equal ways depends.
  std::optional<MetaspaceRules> metaspace;
  std::string source;  // named in error messages
};

// Ids, and ties between equally good ways, are SentencePiece's (for texts of up to 8 KiB; behind
// that its sums lose digits, ours do not). The unknown token is not special: it decodes to
// unk_surface. Encode adds no begin or end token.
//
// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (duplicate or
// empty pieces, scores that are no numbers, ids out of range, a damaged charsmap, more than
// tokenizer_limits.h allows, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewUnigram(UnigramConfig config);

}  // namespace lectern
