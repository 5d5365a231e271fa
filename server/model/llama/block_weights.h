// Weights in the blocks of their file (GGUF's Q4_0, Q4_1 and Q8_0), multiplied by
// kernels/linear/q4q8_linear.h: no weight is rounded again and nothing is rotated. A row's result
// does not depend on its batch, bit for bit.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/model/llama/llama_reader.h"
#include "server/model/llama/llama_weights.h"

namespace lectern {

// UNIMPLEMENTED naming the first tensor that is not in such blocks, or differs in bits from those
// it is stacked with.
absl::Status CheckBlockWeights(const LlamaReader& reader);

// Packs all matrices on `threads` threads. `reader` is kept: embedding rows are read from the
// mapped file when they are needed. Errors are CheckBlockWeights' and the file's.
absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaBlockWeights(
    std::shared_ptr<const LlamaReader> reader, int threads);

}  // namespace lectern
