// Shared by both readers of DecoderConfig: ranges, and the names of the keys for errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/model/decoder/decoder_config.h"

namespace lectern {

inline constexpr int64_t kMaxDecoderWidth = 1 << 20;
inline constexpr int64_t kMaxDecoderLayers = 1024;
inline constexpr int64_t kMaxDecoderVocab = 1 << 22;

// The key each field was read from.
struct DecoderConfigKeys {
  std::string hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, context_length,
      rms_eps, rope_theta, bos, eos;
};

// INVALID_ARGUMENT naming `file` and key unless `config` keeps the guarantees of DecoderConfig.
absl::Status CheckDecoderConfig(const DecoderConfig& config, const DecoderConfigKeys& keys,
                                std::string_view file);

// Lowers the context length to `context_length` (0: not). INVALID_ARGUMENT naming both numbers if
// it is not from 1 to the model's.
absl::Status LimitContext(std::string_view file, int64_t context_length, DecoderConfig& config);

// Fills in the layers, RoPE and end ids of a Llama model whose sizes have been checked.
void DescribeLlama(DecoderConfig& config);

}  // namespace lectern
