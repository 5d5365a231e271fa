// The forward pass of T5 (Raffel et al. 2020, arXiv 1910.10683): an encoder whose tokens all see
// each other, a decoder that sees its own past and, in every layer, what was encoded. RMSNorm
// before each part, unscaled attention with a bias by relative position (none across), ReLU or
// gated GELU. Attention and feed-forward follow the slice's policy in both halves and across.
//
// All encoder slices of a call are stacked for the linear layers, then all decoder slices;
// attention runs slice by slice. What was encoded by several windows, one behind the other, is one
// memory to the decoder (fusion in decoder, Izacard and Grave 2021, arXiv 2007.01282).
#pragma once

#include <memory>
#include <span>

#include "absl/status/status.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/model.h"
#include "server/model/t5/t5_config.h"
#include "server/model/t5/t5_weights.h"

namespace lectern {

// What a pass computes with. Plain references, const during the pass.
struct T5ForwardContext {
  const T5Config& config;
  const T5Weights& weights;
  // Pages of the decoder's own keys and values, and of the memory: num_layers are the decoder's.
  const kernels::KvPageLayout& layout;
  kernels::ExecutionContext execution;
};

std::unique_ptr<Workspace> NewT5Workspace();

// INVALID_ARGUMENT naming the slice and the limit; INTERNAL for a failed kernel, after which the
// pages of the slices' tokens are undefined. `workspace` comes from NewT5Workspace().
absl::Status RunT5Forward(const T5ForwardContext& context, std::span<const ForwardSlice> slices,
                          Workspace& workspace);

}  // namespace lectern
