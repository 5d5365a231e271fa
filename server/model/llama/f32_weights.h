// Dequantised fp32 weights, multiplied by LibTorch (server/model/f32_product): the reference. A
// row's result may depend on the number of rows of its batch by rounding, since the BLAS library
// picks its blocking by shape.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "server/model/llama/llama_reader.h"
#include "server/model/llama/llama_weights.h"

namespace lectern {

// Reads everything; `reader` is not needed afterwards.
absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaF32Weights(const LlamaReader& reader,
                                                                  int threads);

}  // namespace lectern
