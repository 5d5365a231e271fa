// Settings of a folder's tokenizer_config.json that override its tokenizer.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"

namespace lectern {

// The text of "bos_token" and similar keys: a string, or an object with the string as its content.
std::string TokenText(const nlohmann::json& settings, const char* key, const char* otherwise);

// Changes `tokenizer`, the contents of tokenizer.json, where tokenizer_config.json decides, as
// Hugging Face's transformers does: do_lower_case, strip_accents and tokenize_chinese_chars of a
// BertNormalizer, add_prefix_space of a ByteLevel pre-tokenizer (both unless tokenizer_class is a
// plain fast tokenizer) and add_bos_token. INVALID_ARGUMENT naming `source`, the settings' file,
// and the key of a value that is no boolean.
absl::Status ApplySettings(const nlohmann::json& settings, const std::string& source,
                           nlohmann::json& tokenizer);

}  // namespace lectern
