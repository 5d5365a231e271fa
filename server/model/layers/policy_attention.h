// Computes the attention of several sequences in one layer, each with its own policy, by the
// kernels that every family shares.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/aligned_buffer.h"
#include "kernels/attention/attention_args.h"
#include "kernels/attention/topk_attention.h"
#include "kernels/runtime/execution_context.h"
#include "server/model/attention_policy.h"
#include "server/model/model.h"

namespace lectern {

// One sequence's attention. `args` is complete except for kept_mass.
struct PolicyAttentionCall {
  kernels::AttentionArgs args;
  const AttentionPolicy* policy = nullptr;
  KeptMass* kept_mass = nullptr;  // adds this call's queries where the layer is not dense; or null
};

// Keeps scratch memory between calls: one per workspace, not thread-safe.
class PolicyAttention {
 public:
  // `layer` is the layer's number in the policy (AttentionPolicy::layer_k). Sequences with the same
  // settings share one kernel call. INTERNAL when a kernel fails.
  absl::Status Run(std::span<const PolicyAttentionCall> calls, int layer,
                   const kernels::ExecutionContext& execution);

 private:
  // Rows of a call that keep the same number of keys.
  struct RowGroup {
    kernels::AttentionArgs args;
    const AttentionPolicy* policy;
    KeptMass* kept_mass;  // null where all keys are kept
    int64_t k;            // 0: dense
    bool done;
  };

  static kernels::TopKParams ParamsOf(const RowGroup& group);
  static bool Alike(const RowGroup& a, const RowGroup& b);
  void AddRowGroups(const PolicyAttentionCall& call, int layer);

  std::vector<RowGroup> groups_;
  std::vector<kernels::AttentionArgs> args_;  // of one kernel call
  AlignedBuffer<float> kept_mass_;            // [rows that want it, heads]
};

}  // namespace lectern
