// Applies the feed-forward part of an AttentionPolicy by the kernel that every family shares.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/ffn/ffn_activation.h"
#include "kernels/ffn/topk_ffn.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/attention_policy.h"
#include "server/model/kernel_status.h"

namespace lectern {

// Cuts activated [rows, width] = f(gate) * up to the units that the policy keeps; all of them if it
// does not say. gate: before the activation, row stride in floats.
inline absl::Status KeepTopUnits(const AttentionPolicy& policy, kernels::FfnActivation activation,
                                 const float* gate, int64_t gate_stride, int64_t rows,
                                 int64_t width, float* activated,
                                 const kernels::ExecutionContext& execution) {
  if (policy.ffn_top_k == 0) return absl::OkStatus();
  return FromKernel(kernels::TopKFfn(gate, gate_stride, activation, policy.ffn_rank,
                                     policy.ffn_top_k, rows, width, activated, width, execution),
                    "topk_ffn");
}

}  // namespace lectern
