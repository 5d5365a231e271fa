// The forward pass of BERT (Devlin et al. 2019, arXiv 1810.04805): an encoder with learned
// positions, LayerNorm behind each part, GELU, and, for question answering, a score for each token
// that an answer begins or ends there (section 4.2). Attention and feed-forward follow the slice's
// policy.
//
// All windows of a call are stacked for the linear layers; attention runs window by window, so that
// nothing is padded.
#pragma once

#include <memory>
#include <span>

#include "absl/status/status.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/bert/bert_config.h"
#include "server/model/bert/bert_weights.h"
#include "server/model/model.h"

namespace lectern {

// What a pass computes with. Plain references, const during the pass.
struct BertForwardContext {
  const BertConfig& config;
  const BertWeights& weights;
  kernels::KvType kv_type;
  kernels::ExecutionContext execution;
};

std::unique_ptr<Workspace> NewBertWorkspace();

// INVALID_ARGUMENT naming the slice and the limit; INTERNAL for a failed kernel. `workspace` comes
// from NewBertWorkspace().
absl::Status RunBertForward(const BertForwardContext& context, std::span<const ForwardSlice> slices,
                            Workspace& workspace);

}  // namespace lectern
