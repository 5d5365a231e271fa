// Reads what the files of a model say about its turns: chat template, begin and end of sequence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/gguf.h"

namespace lectern {

struct ChatSettings {
  std::string chat_template;     // Jinja source; empty: none
  std::string template_source;   // the file, or the GGUF key, that holds it; for people
  std::string bos_token;         // text; empty: not said
  std::string eos_token;         // text; empty: not said
  int32_t bos_id = -1;           // -1: not said
  std::vector<int32_t> end_ids;  // ids that end an answer, as far as the files list them
  bool end_tokens_by_text =
      false;  // tokens that commonly end a turn do (a GGUF file holds no list)
};

// A Hugging Face folder: chat_template.jinja, else the key chat_template of tokenizer_config.json
// (a text, or named texts of which "default" is taken); bos_token and eos_token of
// tokenizer_config.json; eos_token_id (a number or a list) of generation_config.json. Absent files
// say nothing. INVALID_ARGUMENT naming file and key for a value of another type, or for an id that
// is not in [0, vocabulary).
absl::StatusOr<ChatSettings> ReadChatSettings(const std::filesystem::path& folder,
                                              int64_t vocabulary);

// A GGUF file: tokenizer.chat_template; tokenizer.ggml.bos_token_id, eos_token_id, eot_token_id and
// eom_token_id. Errors are as above.
absl::StatusOr<ChatSettings> ReadChatSettings(const GgufFile& file, int64_t vocabulary);

}  // namespace lectern
