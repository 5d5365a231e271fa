// Llama 1 to 3, SmolLM2, TinyLlama, Yi, DeepSeek-R1-Distill-Llama (Touvron et al. 2023, arXiv
// 2302.13971): the plain decoder. GGUF files of Mistral models are of this architecture as well.
#include "base/status_macros.h"
#include "server/model/decoder/families/decoder_family.h"
#include "server/model/decoder/families/shared_settings.h"

namespace lectern {

absl::Status DescribeLlama(const DecoderSettings& settings, DecoderConfig& config) {
  LECTERN_RETURN_IF_ERROR(ReadSizes(settings, {}, config));
  LECTERN_RETURN_IF_ERROR(CheckActivation(settings, "hidden_act", {"silu", "swish"}));
  LECTERN_RETURN_IF_ERROR(ReadAttentionBias(settings, config));
  LECTERN_RETURN_IF_ERROR(ReadMlpBias(settings, config));
  LECTERN_RETURN_IF_ERROR(AddRope(settings, {}, config).status());
  if (!settings.is_gguf()) return absl::OkStatus();
  config.tensors.qk_interleaved = true;
  // Llama itself has no windows.
  LECTERN_ASSIGN_OR_RETURN(const int64_t window, ReadWindow(settings, /*absent=*/0));
  LECTERN_ASSIGN_OR_RETURN(const std::vector<bool> sliding,
                           ReadSlidingLayers(settings, config, FullEvery(0)));
  SetWindows(window, sliding, config);
  return absl::OkStatus();
}

}  // namespace lectern
