// Gemma 2 (arXiv 2408.00118) and Gemma 3 (arXiv 2503.19786): norms around both parts of a layer,
// GELU, scaled embeddings, windows; Gemma 2 caps scores and logits, Gemma 3 norms queries and keys
// and has a RoPE for each kind of layer.
#include <cmath>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

namespace {

// The layers of the 27B models, whose GGUF files do not name their scale of scores.
constexpr int64_t kGemma2LargeLayers = 46;
constexpr int64_t kGemma3LargeLayers = 62;

absl::StatusOr<double> ReadScale(const DecoderSettings& settings, const DecoderConfig& config,
                                 int64_t large_layers) {
  double scalar = 256;
  if (settings.is_gguf()) {
    const int64_t width =
        config.layers == large_layers ? config.hidden / config.heads : config.head_dim;
    scalar = static_cast<double>(width);
  }
  LECTERN_ASSIGN_OR_RETURN(scalar,
                           ReadPositive(settings, {.folder = "query_pre_attn_scalar"}, scalar));
  return 1 / std::sqrt(scalar);
}

// A soft cap: 0 if switched off.
absl::StatusOr<double> ReadCap(const DecoderSettings& settings, const std::string& name,
                               double absent) {
  const SettingKey key = {name, name};
  if (settings.IsNull(key) || (absent == 0 && !settings.Has(key))) return 0;
  return ReadPositive(settings, key, absent);
}

absl::Status DescribeGemma(const DecoderSettings& settings, const SizeDefaults& defaults,
                           int64_t large_layers, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, defaults, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_activation", {"gelu_pytorch_tanh"}));
  LECTERN_RETURN_IF_ERROR(ReadAttentionBias(settings, config));
  LECTERN_ASSIGN_OR_RETURN(const double scale, ReadScale(settings, config, large_layers));
  for (DecoderLayer& layer : config.layer) {
    layer.attention_post_norm = true;
    layer.ffn_post_norm = true;
    layer.scale = scale;
  }
  config.norms_store_offset = !settings.is_gguf();
  config.activation = kernels::FfnActivation::kGeluTanh;
  config.embedding_factor = std::sqrt(static_cast<double>(config.hidden));
  return absl::OkStatus();
}

// Layers between two full ones, and one.
absl::StatusOr<int64_t> ReadPeriod(const DecoderSettings& settings) {
  const SettingKey newer = {.folder = "_sliding_window_pattern"};
  const SettingKey older = {.folder = "sliding_window_pattern"};
  LECTERN_ASSIGN_OR_RETURN(int64_t period, settings.Int(newer, 6));
  LECTERN_ASSIGN_OR_RETURN(period, settings.Int(older, period));
  if (period >= 1) return period;
  return settings.Invalid(settings.Has(older) ? older : newer,
                          absl::StrCat(period, " is not above 0"));
}

}  // namespace

absl::Status DescribeGemma2(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(DescribeGemma(settings, {.kv_heads = 4, .head_dim = 256, .tied = true},
                                        kGemma2LargeLayers, config));
  LECTERN_ASSIGN_OR_RETURN(const double cap, ReadCap(settings, "attn_logit_softcapping", 50));
  for (DecoderLayer& layer : config.layer) layer.score_cap = cap;
  LECTERN_ASSIGN_OR_RETURN(config.logit_cap, ReadCap(settings, "final_logit_softcapping", 30));
  LECTERN_RETURN_IF_ERROR(AddRope(settings, {}, config).status());
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, 4096));
  LECTERN_ASSIGN_OR_RETURN(const std::vector<bool> sliding,
                           ReadSlidingLayers(settings, config, FullEvery(2)));
  SetWindows(window, sliding, config);
  return absl::OkStatus();
}

absl::Status DescribeGemma3(const DecoderSettings& settings, DecoderConfig& config) {
  // Published files leave out much of this.
  const SizeDefaults defaults = {.hidden = 2304,
                                 .layers = 26,
                                 .heads = 8,
                                 .intermediate = 9216,
                                 .vocab = 262'208,
                                 .context_length = 131'072,
                                 .kv_heads = 4,
                                 .head_dim = 256,
                                 .tied = true};
  LECTERN_RETURN_IF_ERROR(DescribeGemma(settings, defaults, kGemma3LargeLayers, config));
  LECTERN_ASSIGN_OR_RETURN(config.logit_cap, ReadCap(settings, "final_logit_softcapping", 0));
  LECTERN_ASSIGN_OR_RETURN(
      const int full_rope,
      AddRope(settings, {.theta_absent = 1'000'000, .layer_type = "full_attention"}, config));
  LECTERN_ASSIGN_OR_RETURN(const int sliding_rope,
                           AddRope(settings,
                                   {.theta = {"rope_local_base_freq", "rope.freq_base_swa"},
                                    .scaled = false,
                                    .layer_type = "sliding_attention"},
                                   config));
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, 4096));
  LECTERN_ASSIGN_OR_RETURN(const int64_t period, ReadPeriod(settings));
  LECTERN_ASSIGN_OR_RETURN(const std::vector<bool> sliding,
                           ReadSlidingLayers(settings, config, FullEvery(period)));
  SetWindows(window, sliding, config);
  for (size_t i = 0; i < sliding.size(); ++i) {
    config.layer[i].qk_norm = QkNorm::kHead;
    config.layer[i].rope = sliding[i] ? sliding_rope : full_rope;
  }
  return absl::OkStatus();
}

absl::Status DescribeGemma3Nested(const DecoderSettings& settings, DecoderConfig& config) {
  config.tensors.prefixes = {"language_model.model.", "model.language_model."};
  config.tensors.passed_over = {"vision_tower.*", "multi_modal_projector.*", "model.vision_tower.*",
                                "model.multi_modal_projector.*"};
  return DescribeGemma3(settings, config);
}

}  // namespace lectern
