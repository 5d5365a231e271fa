// The hyper-parameters of a Llama-family model, from GGUF metadata or a Hugging Face config.json.
// Every value is range-checked here, so that later code can multiply without checking.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/formats/gguf.h"

namespace lectern {

// Guarantees: all sizes are positive, head_dim is even, heads is a multiple of kv_heads, and
// heads * head_dim, hidden, intermediate and context_length are at most 2^20, vocab at most 2^22,
// layers at most 1024. `bos` and `eos` are -1 or inside the vocabulary.
struct LlamaConfig {
  std::string name;  // general.name, _name_or_path, or empty
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate = 0;
  int64_t vocab = 0;
  int64_t context_length = 0;  // positions the model was trained for
  double rms_eps = 0;
  double rope_theta = 0;
  bool tied = false;  // the output matrix is the embedding table
  int32_t bos = -1;   // -1: not named by the file
  int32_t eos = -1;
  std::string chat_template;  // Jinja source; empty in config.json, which does not carry it
};

// INVALID_ARGUMENT naming file and key for a value that is absent, of another type or out of range.
// UNIMPLEMENTED naming what was found for an architecture or feature that this build does not
// compute: rope scaling, partial rotary, biases, sliding windows, experts, activations other than
// SiLU, several end tokens.
absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufFile& file);
// `source` names the file in errors.
absl::StatusOr<LlamaConfig> ReadLlamaConfigJson(std::string_view contents, std::string_view source);

}  // namespace lectern
