// The forward pass of the Llama family (Touvron et al. 2023, arXiv 2302.13971, section 2.2):
// RMSNorm, grouped-query attention with RoPE over paged keys and values, SwiGLU. All tokens of all
// slices are stacked for the linear layers; attention runs slice by slice over each slice's own
// pages.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/rows/rope.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/llama/llama_config.h"
#include "server/model/llama/llama_weights.h"
#include "server/model/model.h"

namespace lectern {

// What a pass computes with. Plain references, const during the pass.
struct LlamaForwardContext {
  const LlamaConfig& config;
  const LlamaWeights& weights;
  const kernels::RopeTable& rope;
  const kernels::KvPageLayout& layout;
  kernels::ExecutionContext execution;
};

// Sees the residual stream of all stacked tokens, [tokens, hidden]: after the embedding (stage 0),
// after each layer (1 .. layers) and after the final norm (layers + 1). For tests; while it is set
// nothing is left out.
class ResidualObserver {
 public:
  virtual ~ResidualObserver() = default;
  virtual void Observe(int stage, std::span<const float> stream) = 0;
};

// Layers whose attention tells evidence best: [first, last).
struct LayerRange {
  int first = 0;
  int last = 0;
};
LayerRange EvidenceLayers(int layers);

std::unique_ptr<Workspace> NewLlamaWorkspace();

// INVALID_ARGUMENT naming the slice and the limit; INTERNAL for a failed kernel, after which the
// pages of the slices' tokens are undefined. `workspace` comes from NewLlamaWorkspace().
absl::Status RunLlamaForward(const LlamaForwardContext& context,
                             std::span<const ForwardSlice> slices, Workspace& workspace,
                             ResidualObserver* observer = nullptr);

}  // namespace lectern
