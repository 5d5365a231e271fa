// SentencePiece's unigram language model (Kudo 2018, arXiv 1804.10959): of all ways to
// divide a text into pieces, it chooses the one with the best sum of log-probabilities.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

enum class PieceType {
  kNormal,
  kUnknown,      // text that no piece covers; one per vocabulary
  kControl,      // special: recognised in text on request; decodes to nothing
  kUserDefined,  // always matched in the text, also before normalisation
  kUnused,       // has an id, but no text encodes to it
  kByte,         // "<0x41>", for byte_fallback
};

struct UnigramPiece {
  std::string text;
  double score = 0;
  PieceType type = PieceType::kNormal;
};

// How Hugging Face's fast tokenizers normalise and divide text, according to tokenizer.json.
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

// The contents of a vocabulary file, in any format.
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
  // If set: these rules instead of SentencePiece's, and sums in double precision. If not set:
  // SentencePiece's rules and its single precision, on which the choice between equal paths
  // depends.
  std::optional<MetaspaceRules> metaspace;
  std::string source;  // named in error messages
};

// Ids, and ties between equally good paths, are those of SentencePiece (for texts of up to 8 KiB;
// beyond that its sums lose digits and these do not). The unknown token is not special: it decodes
// to unk_surface. Encode adds no begin or end token.
//
// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (duplicate or
// empty pieces, scores that are not numbers, ids out of range, a damaged charsmap, more than
// tokenizer_limits.h allows, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewUnigram(UnigramConfig config);

}  // namespace lectern
