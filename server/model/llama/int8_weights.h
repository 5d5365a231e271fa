// Rotated int8 weights (rotated_matrices.h), multiplied by kernels/linear/int8_linear.h; no
// LibTorch. A row's result does not depend on its batch, bit for bit.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/device/int8_device.h"
#include "server/model/llama/llama_reader.h"
#include "server/model/llama/llama_weights.h"

namespace lectern {

// Packs all matrices on `threads` threads. `reader` is kept: embedding rows are read from the
// mapped file when they are needed, so that the table is not held twice. With a device (null: none)
// it gets a copy of all matrices.
absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaInt8Weights(
    std::shared_ptr<const LlamaReader> reader, int threads, Int8Device* device);

}  // namespace lectern
