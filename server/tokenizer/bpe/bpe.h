// Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), in its two forms: over bytes (GPT-2,
// Llama 3, Qwen) and over characters (SentencePiece: Llama 2, Mistral, Gemma).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/bpe/pre_tokenize.h"
#include "server/tokenizer/text/text_step.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

struct BpeMerge {
  std::string left, right;
};

// The contents of a vocabulary file, in any format.
//
// Encode finds the added tokens, then in each text between them applies `steps`, divides it by
// `splits`, turns each piece into symbols and merges neighbours, best first.
struct BpeConfig {
  enum class Alphabet {
    kBytes,       // tokens are written in GPT-2's printable alphabet (byte_alphabet.h)
    kCharacters,  // tokens are text, in which U+2581 is a blank
  };
  Alphabet alphabet = Alphabet::kBytes;

  std::vector<std::string> tokens;  // index = id; empty: an id that no text has
  // In order of rank. With `scores` there are none: then neighbours that together are a token
  // merge, those with the highest score first (SentencePiece).
  std::vector<BpeMerge> merges;
  std::vector<double> scores;     // [tokens], or empty
  std::vector<int32_t> unmerged;  // tokens that `scores` never merge to (control, unused)
  std::vector<AddedToken> added;  // their texts are those of `tokens`
  std::vector<TextStep> steps;
  // How many of them come before the added tokens that are `normalized` are found.
  size_t normalizer_steps = 0;
  std::vector<SplitRule> splits;
  bool ignore_merges = false;  // a piece that is a token becomes that token, without merging

  // A symbol that is no token: its bytes as tokens "<0x00>" to "<0xFF>" if byte_fallback is set and
  // all are there; else `unk_id`, once for neighbouring ones with fuse_unk; else nothing, and its
  // neighbours may merge.
  bool byte_fallback = false;
  int32_t unk_id = -1;
  bool fuse_unk = false;

  bool strip_first_space = false;  // decoded text loses one blank at its beginning
  int32_t eos_id = -1;
  int32_t bos_id = -1;
  bool add_bos = false;  // see Tokenizer::adds_bos
  std::string source;    // named in error messages
};

// INVALID_ARGUMENT, naming `source` and what is wrong, for an inconsistent vocabulary (duplicate
// tokens, a merge of unknown tokens, ids out of range, a bad pattern, more than 2^22 tokens, ...).
absl::StatusOr<std::unique_ptr<Tokenizer>> NewBpe(BpeConfig config);

}  // namespace lectern
