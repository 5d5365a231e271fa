// Shared by the readers of DecoderConfig.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "server/model/decoder/decoder_config.h"

namespace lectern {

// The last step of both readers: lowers the context length to `context_length` (0: not), drops
// windows that hide nothing, and sets `eos`. INVALID_ARGUMENT naming both numbers if
// `context_length` is not from 1 to the model's.
absl::Status FinishDecoderConfig(std::string_view file, int64_t context_length,
                                 DecoderConfig& config);

}  // namespace lectern
