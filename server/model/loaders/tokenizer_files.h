// Vocabularies and chat templates as model files bring them.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/model/loaders/gguf.h"
#include "server/tokenizer/byte_level_bpe.h"
#include "server/tokenizer/tokenizer.h"
#include "server/tokenizer/unigram.h"
#include "server/tokenizer/word_piece.h"

namespace lectern {

// From a GGUF's tokenizer.ggml.* metadata. UNIMPLEMENTED naming what was found for another kind of
// tokeniser or pre-tokeniser; INVALID_ARGUMENT naming file and key for damaged metadata.
absl::StatusOr<ByteLevelBpeConfig> ReadGgufTokenizer(const GgufFile& file);

// From the contents of a Hugging Face tokenizer.json; the same errors. `eos_id` comes from the
// model's config.json.
absl::StatusOr<ByteLevelBpeConfig> ParseTokenizerJson(std::string_view json, std::string source,
                                                      int32_t eos_id);

// From the bytes of SentencePiece's spiece.model; of a tokenizer.json whose model.type is Unigram
// or WordPiece; of a vocab.txt, one token a line. The same errors.
absl::StatusOr<UnigramConfig> ParseSpieceModel(std::string_view bytes, std::string source);
absl::StatusOr<UnigramConfig> ParseUnigramJson(const nlohmann::json& root, std::string source,
                                               int32_t eos_id);
absl::StatusOr<WordPieceConfig> ParseWordPieceJson(const nlohmann::json& root, std::string source);
absl::StatusOr<WordPieceConfig> ParseVocabTxt(std::string_view text, std::string source);

// The tokenizer of a Hugging Face folder, of whichever kind: its spiece.model, tokenizer.json or
// vocab.txt with tokenizer_config.json. `eos_id` comes from config.json, -1 if it does not say.
// NOT_FOUND if there is none of them; else the same errors.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFolder(const std::string& folder,
                                                               int32_t eos_id);

}  // namespace lectern
