// OLMo 2 (arXiv 2501.00656) and OLMo 3: norms after attention and feed-forward instead of before,
// norms of all queries and all keys together; OLMo 3 adds windows, and the layers that have one
// a RoPE without scaling. GGUF files of OLMo 3 are of architecture "olmo2".
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

namespace {

constexpr int64_t kFullEvery = 4;  // OLMo 3: the last of four layers sees everything

absl::Status DescribeOlmo(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, {.rms_eps = 1e-5}, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  LECTERN_RETURN_IF_ERROR(ReadAttentionBias(settings, config));
  for (DecoderLayer& layer : config.layer) {
    layer.attention_norm = false;
    layer.attention_post_norm = true;
    layer.ffn_norm = false;
    layer.ffn_post_norm = true;
    layer.qk_norm = QkNorm::kWidth;
  }
  return absl::OkStatus();
}

// Windows of OLMo 3; `sliding_keys` is the RoPE of the layers that have one.
absl::Status ReadWindows(const DecoderSettings& settings, int64_t window_absent,
                         const RopeKeys& sliding_keys, DecoderConfig& config) {
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, window_absent));
  if (window == 0 && settings.is_gguf()) return absl::OkStatus();  // OLMo 2
  LECTERN_ASSIGN_OR_RETURN(const std::vector<bool> sliding,
                           ReadSlidingLayers(settings, config, FullEvery(kFullEvery)));
  LECTERN_ASSIGN_OR_RETURN(const int sliding_rope, AddRope(settings, sliding_keys, config));
  SetWindows(window, sliding, config);
  for (size_t i = 0; i < sliding.size(); ++i) {
    if (sliding[i]) config.layer[i].rope = sliding_rope;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DescribeOlmo2(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(DescribeOlmo(settings, config));
  LECTERN_RETURN_IF_ERROR(AddRope(settings, {}, config).status());
  if (!settings.is_gguf()) return absl::OkStatus();
  return ReadWindows(settings, /*window_absent=*/0, {.scaled = false}, config);
}

absl::Status DescribeOlmo3(const DecoderSettings& settings, DecoderConfig& config) {
  constexpr double kTheta = 500'000;
  LECTERN_RETURN_IF_ERROR(DescribeOlmo(settings, config));
  LECTERN_RETURN_IF_ERROR(
      AddRope(settings, {.theta_absent = kTheta, .layer_type = "full_attention"}, config).status());
  // A theta at the top level is for the full layers alone.
  const RopeKeys sliding_keys = {
      .theta = {}, .theta_absent = kTheta, .scaled = false, .layer_type = "sliding_attention"};
  return ReadWindows(settings, /*window_absent=*/4096, sliding_keys, config);
}

}  // namespace lectern
