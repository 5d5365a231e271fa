// Granite 3 and 4, dense: Llama with multipliers on embeddings, scores, residuals and logits.
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

namespace {

// config.json names the scale itself, and 1 if nothing; GGUF files without it mean the usual one.
absl::Status ReadScale(const DecoderSettings& settings, DecoderConfig& config) {
  const SettingKey key = {"attention_multiplier", "attention.scale"};
  if (settings.is_gguf() && !settings.Has(key)) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const double scale, ReadPositive(settings, key, 1));
  for (DecoderLayer& layer : config.layer) layer.scale = scale;
  return absl::OkStatus();
}

}  // namespace

absl::Status DescribeGranite(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, {}, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  LECTERN_RETURN_IF_ERROR(ReadAttentionBias(settings, config));
  LECTERN_RETURN_IF_ERROR(ReadMlpBias(settings, config));
  LECTERN_RETURN_IF_ERROR(AddRope(settings, {}, config).status());
  config.tensors.qk_interleaved = settings.is_gguf();
  // GGUF files of models without RoPE say that their RoPE is not trained.
  LECTERN_ASSIGN_OR_RETURN(const bool has_rope,
                           settings.Bool({.gguf = "rope.scaling.finetuned"}, true));
  for (DecoderLayer& layer : config.layer) layer.rope = has_rope ? 0 : -1;
  LECTERN_RETURN_IF_ERROR(ReadScale(settings, config));
  LECTERN_ASSIGN_OR_RETURN(config.embedding_factor,
                           ReadPositive(settings, {"embedding_multiplier", "embedding_scale"}, 1));
  LECTERN_ASSIGN_OR_RETURN(config.residual_factor,
                           ReadPositive(settings, {"residual_multiplier", "residual_scale"}, 1));
  LECTERN_ASSIGN_OR_RETURN(const double divisor,
                           ReadPositive(settings, {"logits_scaling", "logit_scale"}, 1));
  config.logit_factor = 1 / divisor;
  return absl::OkStatus();
}

}  // namespace lectern
