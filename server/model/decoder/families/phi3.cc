// Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Abdin et al. 2024, arXiv 2404.14219): one matrix for
// queries, keys and values and one for gate and up, longrope, a part of each head rotated, windows.
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

absl::Status DescribePhi3(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, {.rms_eps = 1e-5}, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  config.tensors.fused = true;
  LECTERN_RETURN_IF_ERROR(
      AddRope(settings, {.partial = true, .yarn_is_longrope = true}, config).status());
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, /*absent=*/0));
  // In every layer: Phi-3 does not read layer_types.
  SetWindows(window, std::vector<bool>(config.layers, true), config);
  return absl::OkStatus();
}

}  // namespace lectern
