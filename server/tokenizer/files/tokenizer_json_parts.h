// Access to untrusted JSON, shared by the readers of tokenizer.json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/bpe/bpe.h"
#include "server/tokenizer/unigram/unigram.h"
#include "server/tokenizer/word_piece/word_piece.h"

namespace lectern {

// The member of an object, or null if there is none, it is null, or `object` is no object.
const nlohmann::json* Child(const nlohmann::json& object, const char* key);
// Its "type", or "none".
std::string TypeOf(const nlohmann::json* object);
// A boolean member, or `otherwise`.
bool Flag(const nlohmann::json& object, const char* key, bool otherwise);
// A string member, or `otherwise`.
std::string Text(const nlohmann::json& object, const char* key, std::string otherwise);
bool IsId(const nlohmann::json& id);

// INVALID_ARGUMENT about a key; UNIMPLEMENTED about one, or naming the value found there.
absl::Status InvalidKey(std::string_view source, std::string_view key, std::string_view why);
absl::Status UnsupportedKey(std::string_view source, std::string_view key, std::string_view why);
absl::Status UnknownKind(std::string_view source, std::string_view key, const std::string& found);

// The entries of "added_tokens".
absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const nlohmann::json& root,
                                                        std::string_view source);

// "added_tokens_decoder" of tokenizer_config.json: {"32099": {"content": "<extra_id_0>", ...}, ...}
absl::Status ReadAddedTokensDecoder(const nlohmann::json& settings, std::string_view source,
                                    std::vector<AddedToken>& added);

// A tokenizer.json whose model is of that type.
absl::StatusOr<BpeConfig> ReadBpeJson(const nlohmann::json& root, const std::string& source,
                                      int32_t eos_id);
absl::StatusOr<UnigramConfig> ReadUnigramJson(const nlohmann::json& root, const std::string& source,
                                              int32_t eos_id);
absl::StatusOr<WordPieceConfig> ReadWordPieceJson(const nlohmann::json& root,
                                                  const std::string& source, int32_t eos_id);

}  // namespace lectern
