// Checks of the arguments of Model::Forward.
#pragma once

#include <span>

#include "absl/status/status.h"
#include "kernels/kv_pages.h"
#include "server/model/loaders/llama_config.h"
#include "server/model/model.h"

namespace lectern {

// INVALID_ARGUMENT with a field violation naming slice, field and limit.
absl::Status CheckSlices(const LlamaConfig& config, std::span<const ForwardSlice> slices);

}  // namespace lectern
