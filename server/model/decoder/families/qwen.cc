// Qwen2, Qwen2.5 and DeepSeek-R1-Distill-Qwen (Yang et al. 2024, arXiv 2407.10671): biases on
// queries, keys and values. Qwen3 (arXiv 2505.09388): norms of queries and keys instead.
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

namespace {

// Windows are switched on by use_sliding_window, for the layers from max_window_layers on.
// GGUF files name no window of these families.
absl::Status ReadWindows(const DecoderSettings& settings, DecoderConfig& config) {
  if (settings.is_gguf()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const bool on, settings.Bool({.folder = "use_sliding_window"}, false));
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, 4096));
  LECTERN_ASSIGN_OR_RETURN(const int64_t first, settings.Int({.folder = "max_window_layers"}, 28));
  LECTERN_ASSIGN_OR_RETURN(
      const std::vector<bool> sliding,
      ReadSlidingLayers(settings, config, [first](int64_t layer) { return layer >= first; }));
  if (on) SetWindows(window, sliding, config);
  return absl::OkStatus();
}

absl::Status DescribeQwen(const DecoderSettings& settings, const SizeDefaults& defaults,
                          DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, defaults, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  LECTERN_RETURN_IF_ERROR(AddRope(settings, {}, config).status());
  return ReadWindows(settings, config);
}

}  // namespace

absl::Status DescribeQwen2(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(DescribeQwen(settings, {.kv_heads = 32}, config));
  LECTERN_RETURN_IF_ERROR(ReadAttentionBias(settings, config));
  if (!settings.is_gguf()) {  // q, k and v have one and o has none, whatever attention_bias says
    config.tensors.qkv_bias = true;
    config.tensors.o_bias = false;
  }
  return absl::OkStatus();
}

absl::Status DescribeQwen3(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(DescribeQwen(settings, {.kv_heads = 32, .head_dim = 128}, config));
  for (DecoderLayer& layer : config.layer) layer.qk_norm = QkNorm::kHead;
  return ReadAttentionBias(settings, config);
}

}  // namespace lectern
