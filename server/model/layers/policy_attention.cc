#include "server/model/layers/policy_attention.h"

#include <algorithm>

#include "kernels/dense_attention.h"
#include "kernels/topk_attention.h"
#include "server/base/status_macros.h"
#include "server/model/kernel_status.h"

namespace lectern {
namespace {

bool WantsMass(const PolicyAttentionCall& call, int layer) {
  return call.kept_mass != nullptr && call.policy->KForLayer(layer) > 0;
}

int64_t Queries(const PolicyAttentionCall& call) { return call.args.rows * call.args.num_q_heads; }

KeptMass MassOf(const float* mass, int64_t count) {
  KeptMass sum;
  sum.count = count;
  for (int64_t i = 0; i < count; ++i) {
    sum.sum += mass[i];
    sum.min = std::min(sum.min, static_cast<double>(mass[i]));
  }
  return sum;
}

}  // namespace

absl::Status PolicyAttention::Run(std::span<const PolicyAttentionCall> calls, int layer,
                                  const kernels::ExecutionContext& execution) {
  int64_t queries = 0;
  for (const PolicyAttentionCall& call : calls) {
    if (WantsMass(call, layer)) queries += Queries(call);
  }
  float* const masses = kept_mass_.Reserve(queries);
  done_.assign(calls.size(), 0);
  for (size_t first = 0; first < calls.size(); ++first) {
    if (done_[first]) continue;
    const AttentionPolicy& wanted = *calls[first].policy;
    const int64_t k = wanted.KForLayer(layer);
    args_.clear();
    float* mass = masses;
    for (size_t i = 0; i < calls.size(); ++i) {
      const AttentionPolicy& policy = *calls[i].policy;
      float* const own = mass;
      if (WantsMass(calls[i], layer)) mass += Queries(calls[i]);
      const bool alike =
          policy.KForLayer(layer) == k &&
          (k == 0 || (policy.tail == wanted.tail && policy.page_budget == wanted.page_budget));
      if (i < first || done_[i] || !alike) continue;
      done_[i] = 1;
      args_.push_back(calls[i].args);
      args_.back().kept_mass = WantsMass(calls[i], layer) ? own : nullptr;
    }
    LECTERN_RETURN_IF_ERROR(Launch(k, wanted, execution));
  }
  const float* mass = masses;
  for (const PolicyAttentionCall& call : calls) {
    if (!WantsMass(call, layer)) continue;
    call.kept_mass->Add(MassOf(mass, Queries(call)));
    mass += Queries(call);
  }
  return absl::OkStatus();
}

absl::Status PolicyAttention::Launch(int64_t k, const AttentionPolicy& policy,
                                     const kernels::ExecutionContext& execution) const {
  if (k == 0) return FromKernel(kernels::DenseAttention(args_, execution), "dense_attention");
  kernels::TopKParams params;
  params.k = k;
  params.tail =
      policy.tail == AttentionPolicy::Tail::kMean ? kernels::Tail::kMean : kernels::Tail::kNone;
  params.page_budget = policy.page_budget;
  return FromKernel(kernels::TopKAttention(args_, params, execution), "topk_attention");
}

}  // namespace lectern
