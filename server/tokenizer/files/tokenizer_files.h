// Vocabularies and chat templates as model files bring them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/formats/gguf.h"
#include "server/tokenizer/bpe/byte_level_bpe.h"
#include "server/tokenizer/unigram/unigram.h"
#include "server/tokenizer/word_piece/word_piece.h"

namespace lectern {

// From a GGUF's tokenizer.ggml.* metadata. UNIMPLEMENTED naming what was found for another kind of
// tokeniser or pre-tokeniser; INVALID_ARGUMENT naming file and key for damaged metadata.
absl::StatusOr<ByteLevelBpeConfig> ReadGgufTokenizer(const GgufFile& file);

// From the contents of a Hugging Face tokenizer.json of type BPE; the same errors. `eos_id` comes
// from the model's config.json.
absl::StatusOr<ByteLevelBpeConfig> ParseTokenizerJson(std::string_view json, std::string source,
                                                      int32_t eos_id);

// From the contents of a spiece.model (SentencePiece, type unigram); the same errors.
absl::StatusOr<UnigramConfig> ParseSpieceModel(std::string_view contents, std::string source);

// From the contents of a vocab.txt and of the tokenizer_config.json beside it (empty: none); the
// same errors.
absl::StatusOr<WordPieceConfig> ParseVocabTxt(std::string_view vocabulary, std::string source,
                                              std::string_view settings_json,
                                              std::string settings_source);

// From the contents of a vocab.json ({"token": id}), the merges.txt beside it and what of
// tokenizer_config.json there is (empty: nothing); the same errors. Special tokens are RoBERTa's
// and those that the settings name.
absl::StatusOr<ByteLevelBpeConfig> ParseVocabJson(std::string_view vocabulary, std::string source,
                                                  std::string_view merges,
                                                  std::string_view settings_json,
                                                  std::string settings_source);

// From the contents of a tokenizer.json of type BPE, Unigram or WordPiece. `eos_id` below 0: what
// the file says, if it does.
absl::StatusOr<std::unique_ptr<Tokenizer>> NewTokenizerFromJson(std::string_view contents,
                                                                std::string source, int32_t eos_id);

// From what a model folder holds: tokenizer.json, else spiece.model, else vocab.txt, else
// vocab.json and merges.txt (all but the first with the tokenizer_config.json beside them).
// INVALID_ARGUMENT if it holds none.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFolder(const std::string& folder,
                                                               int32_t eos_id);

}  // namespace lectern
