// Reads vocabularies and chat templates from model files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/gguf.h"
#include "server/tokenizer/bpe/bpe.h"
#include "server/tokenizer/unigram/unigram.h"
#include "server/tokenizer/word_piece/word_piece.h"

namespace lectern {

// Reads a GGUF's tokenizer.ggml.* metadata. UNIMPLEMENTED, naming the kind, for another kind of
// tokeniser or pre-tokeniser; INVALID_ARGUMENT naming file and key for damaged metadata.
absl::StatusOr<BpeConfig> ReadGgufTokenizer(const GgufFile& file);
// The tokenizer of a GGUF file, which needs to hold nothing else. NewBpe's errors too.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerGguf(const GgufFile& file);

// Reads the contents of a Hugging Face tokenizer.json of type BPE, with the same errors. `eos_id`
// comes from the model's config.json.
absl::StatusOr<BpeConfig> ParseTokenizerJson(std::string_view json, std::string source,
                                             int32_t eos_id);

// Reads the contents of a spiece.model (SentencePiece, type unigram), with the same errors.
absl::StatusOr<UnigramConfig> ParseSpieceModel(std::string_view contents, std::string source);

// Reads the contents of a sentencepiece.bpe.model (XLM-RoBERTa), with the same errors. The ids are
// fairseq's, not the file's: <s> <pad> </s> <unk>, the pieces after the file's first three, <mask>.
absl::StatusOr<UnigramConfig> ParseFairseqSpieceModel(std::string_view contents,
                                                      std::string source);

// Settings of a folder about its SentencePiece model, from tokenizer_config.json or
// added_tokens.json.
struct SpieceSettings {
  std::vector<AddedToken> added;
  // Both concern models of type BPE: Tokenizer::adds_bos, if the model has a begin token; and
  // whether every text between special tokens begins a word, rather than the first alone.
  bool add_bos = true;
  bool legacy = true;
};

// The tokenizer of a SentencePiece model of type unigram or BPE. With `eos_id` below 0 the model's
// own end token is used.
absl::StatusOr<std::unique_ptr<Tokenizer>> NewTokenizerFromSpiece(std::string_view contents,
                                                                  std::string source,
                                                                  SpieceSettings settings,
                                                                  int32_t eos_id);

// Reads the contents of a vocab.txt and of its folder's tokenizer_config.json (empty: none), with
// the same errors.
absl::StatusOr<WordPieceConfig> ParseVocabTxt(std::string_view vocabulary, std::string source,
                                              std::string_view settings_json,
                                              std::string settings_source);

// Reads the contents of a vocab.json ({"token": id}) and of its folder's merges.txt and
// tokenizer_config.json (empty: none), with the same errors. Special tokens are RoBERTa's and those
// that the settings name.
absl::StatusOr<BpeConfig> ParseVocabJson(std::string_view vocabulary, std::string source,
                                         std::string_view merges, std::string_view settings_json,
                                         std::string settings_source);

// Reads the contents of a tokenizer.json of type BPE, Unigram or WordPiece. With `eos_id` below 0
// the file's own end token is used, if it has one.
absl::StatusOr<std::unique_ptr<Tokenizer>> NewTokenizerFromJson(std::string_view contents,
                                                                std::string source, int32_t eos_id);

// Reads the tokenizer of a model folder: tokenizer.json, else spiece.model, tokenizer.model or
// sentencepiece.bpe.model, else vocab.txt, else vocab.json and merges.txt, each with the folder's
// tokenizer_config.json. INVALID_ARGUMENT if it holds none.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFolder(const std::string& folder,
                                                               int32_t eos_id);

}  // namespace lectern
