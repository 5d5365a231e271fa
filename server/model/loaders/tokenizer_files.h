// Vocabularies and chat templates as model files bring them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/model/loaders/gguf.h"
#include "server/tokenizer/byte_level_bpe.h"

namespace lectern {

// From a GGUF's tokenizer.ggml.* metadata. UNIMPLEMENTED naming what was found for another kind of
// tokeniser or pre-tokeniser; INVALID_ARGUMENT naming file and key for damaged metadata.
absl::StatusOr<ByteLevelBpeConfig> ReadGgufTokenizer(const GgufFile& file);

// From the contents of a Hugging Face tokenizer.json; the same errors. `eos_id` comes from the
// model's config.json.
absl::StatusOr<ByteLevelBpeConfig> ParseTokenizerJson(std::string_view json, std::string source,
                                                      int32_t eos_id);

}  // namespace lectern
