// Shared by both readers of LlamaConfig: ranges, and the names of the keys for errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/model/llama/llama_config.h"

namespace lectern {

inline constexpr int64_t kMaxLlamaWidth = 1 << 20;
inline constexpr int64_t kMaxLlamaLayers = 1024;
inline constexpr int64_t kMaxLlamaVocab = 1 << 22;

// The key each field was read from.
struct LlamaConfigKeys {
  std::string hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, context_length,
      rms_eps, rope_theta, bos, eos;
};

// INVALID_ARGUMENT naming `file` and key unless `config` keeps the guarantees of LlamaConfig.
absl::Status CheckLlamaConfig(const LlamaConfig& config, const LlamaConfigKeys& keys,
                              std::string_view file);

}  // namespace lectern
