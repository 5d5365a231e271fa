// SmolLM3: Llama in which some layers, usually every fourth, do not encode positions.
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

namespace {

// True for the layers with RoPE. GGUF files do not say it: all but every fourth.
absl::StatusOr<std::vector<bool>> ReadRopeLayers(const DecoderSettings& settings,
                                                 const DecoderConfig& config) {
  const SettingKey list_key = {.folder = "no_rope_layers"};  // lists where RoPE is
  const SettingKey interval_key = {.folder = "no_rope_layer_interval"};
  std::vector<bool> has_rope(config.layers);
  if (!settings.is_gguf() && settings.Has(list_key)) {
    LECTERN_ASSIGN_OR_RETURN(const std::vector<int64_t> list, settings.Flags(list_key));
    if (list.size() != has_rope.size()) {
      return settings.Invalid(
          list_key, absl::StrCat("has ", list.size(), " values for ", config.layers, " layers"));
    }
    has_rope.assign(list.begin(), list.end());
    return has_rope;
  }
  LECTERN_ASSIGN_OR_RETURN(const int64_t interval, settings.is_gguf()
                                                       ? absl::StatusOr<int64_t>(4)
                                                       : settings.Int(interval_key, 4));
  if (interval < 1) {
    return settings.Invalid(interval_key, absl::StrCat(interval, " is not above 0"));
  }
  for (int64_t i = 0; i < config.layers; ++i) has_rope[i] = (i + 1) % interval != 0;
  return has_rope;
}

}  // namespace

absl::Status DescribeSmolLm3(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, {.kv_heads = 4, .tied = true}, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  LECTERN_RETURN_IF_ERROR(ReadAttentionBias(settings, config));
  LECTERN_RETURN_IF_ERROR(ReadMlpBias(settings, config));
  LECTERN_RETURN_IF_ERROR(AddRope(settings, {.theta_absent = 2'000'000}, config).status());
  config.tensors.qk_interleaved = settings.is_gguf();
  LECTERN_ASSIGN_OR_RETURN(const std::vector<bool> has_rope, ReadRopeLayers(settings, config));
  for (size_t i = 0; i < has_rope.size(); ++i) config.layer[i].rope = has_rope[i] ? 0 : -1;
  if (settings.is_gguf()) return absl::OkStatus();

  LECTERN_ASSIGN_OR_RETURN(const bool on, settings.Bool({.folder = "use_sliding_window"}, false));
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, /*absent=*/0));
  LECTERN_ASSIGN_OR_RETURN(
      const std::vector<bool> sliding,
      ReadSlidingLayers(settings, config, [&](int64_t layer) { return !has_rope[layer]; }));
  if (on) SetWindows(window, sliding, config);
  return absl::OkStatus();
}

}  // namespace lectern
