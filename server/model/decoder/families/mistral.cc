// Mistral 7B, Nemo and Small (Jiang et al. 2023, arXiv 2310.06825) and Ministral: Llama with a
// window. GGUF files of them are of architecture "llama".
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

namespace {

// The window of a config.json that does not name one; null means none.
constexpr int64_t kWindow = 4096;

absl::Status DescribeWithoutWindow(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, {.kv_heads = 8}, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  return AddRope(settings, {}, config).status();
}

}  // namespace

absl::Status DescribeMistral(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(DescribeWithoutWindow(settings, config));
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, kWindow));
  // In every layer: Mistral does not read layer_types.
  SetWindows(window, std::vector<bool>(config.layers, true), config);
  return absl::OkStatus();
}

absl::Status DescribeMinistral(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(DescribeWithoutWindow(settings, config));
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, kWindow));
  LECTERN_ASSIGN_OR_RETURN(const std::vector<bool> sliding,
                           ReadSlidingLayers(settings, config, FullEvery(0)));
  SetWindows(window, sliding, config);
  return absl::OkStatus();
}

}  // namespace lectern
