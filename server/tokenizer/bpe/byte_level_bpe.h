// Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909; bytes as in GPT-2).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// How a text is divided before merging; each value names one fixed set of regular expressions.
enum class PreTokenizer {
  kNone,    // not divided: each text between special tokens is one piece
  kGpt2,    // the GPT-2 pattern
  kSmolLm,  // each numeric character alone, then the GPT-2 pattern
};

// The contents of a vocabulary file, in any format. Token strings are in GPT-2's printable
// byte alphabet; merges are "left right" in order of rank.
struct ByteLevelBpeConfig {
  std::vector<std::string> tokens;  // index = id
  std::vector<std::string> merges;
  std::vector<int32_t> special_ids;  // recognised in text on request; decode to nothing
  int32_t eos_id = -1;
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  bool add_bos = false;  // see Tokenizer::adds_bos
  int32_t bos_id = -1;
  std::string source;  // named in error messages
};

// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (duplicate
// tokens, a merge of unknown tokens, ids out of range, more than 2^22 tokens, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewByteLevelBpe(ByteLevelBpeConfig config);

}  // namespace lectern
