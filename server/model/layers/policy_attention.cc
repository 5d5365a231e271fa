#include "server/model/layers/policy_attention.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/attention/dense_attention.h"
#include "kernels/attention/topk_attention.h"
#include "server/model/kernel_status.h"

namespace lectern {
namespace {

// Rows [begin, end) of a call.
kernels::AttentionArgs RowsOf(kernels::AttentionArgs args, int64_t begin, int64_t end) {
  args.q += begin * args.q_stride;
  args.out += begin * args.out_stride;
  if (args.bias != nullptr) args.bias += begin * args.bias_row_stride;
  args.q_offset += begin;
  args.rows = end - begin;
  return args;
}

// How many rows, the first ones, see at most `keys` keys.
int64_t RowsThatSee(const kernels::AttentionArgs& args, int64_t keys) {
  if (args.table.num_tokens <= keys || (args.window > 0 && args.window <= keys)) return args.rows;
  if (!args.causal) return 0;
  return std::clamp<int64_t>(keys - args.q_offset, 0, args.rows);
}

int64_t Queries(const kernels::AttentionArgs& args) { return args.rows * args.num_q_heads; }

KeptMass MassOf(const float* mass, int64_t count) {
  KeptMass sum;
  sum.count = count;
  for (int64_t i = 0; i < count; ++i) {
    sum.sum += mass[i];
    sum.min = std::min(sum.min, static_cast<double>(mass[i]));
  }
  return sum;
}

// A window that holds no more pages than the budget needs none: no page would be left out, and rows
// with a budget are scored one by one.
int64_t PageBudget(const kernels::AttentionArgs& args, const AttentionPolicy& policy) {
  const bool fits = args.window > 0 && args.window / kernels::kPageTokens <= policy.page_budget;
  return fits ? 0 : policy.page_budget;
}

}  // namespace

kernels::TopKParams PolicyAttention::ParamsOf(const RowGroup& group) {
  return {.k = group.k,
          .tail = group.policy->tail,
          .page_budget = PageBudget(group.args, *group.policy)};
}

bool PolicyAttention::Alike(const RowGroup& a, const RowGroup& b) {
  if (a.k != b.k) return false;
  const kernels::TopKParams of_a = ParamsOf(a), of_b = ParamsOf(b);
  return a.k == 0 || (of_a.tail == of_b.tail && of_a.page_budget == of_b.page_budget);
}

void PolicyAttention::AddRowGroups(const PolicyAttentionCall& call, int layer) {
  const int64_t k = call.policy->KForLayer(layer), rows = call.args.rows;
  const int64_t dense = k == 0 ? rows : RowsThatSee(call.args, call.policy->dense_up_to);
  if (dense > 0) {
    groups_.push_back({RowsOf(call.args, 0, dense), call.policy, nullptr, 0, false});
  }
  if (dense < rows) {
    groups_.push_back({RowsOf(call.args, dense, rows), call.policy, call.kept_mass, k, false});
  }
}

absl::Status PolicyAttention::Run(std::span<const PolicyAttentionCall> calls, int layer,
                                  const kernels::ExecutionContext& execution) {
  groups_.clear();
  for (const PolicyAttentionCall& call : calls) AddRowGroups(call, layer);
  int64_t queries = 0;
  for (const RowGroup& group : groups_)
    queries += group.kept_mass == nullptr ? 0 : Queries(group.args);
  float* mass = kept_mass_.Reserve(queries);
  for (RowGroup& group : groups_) {
    group.args.kept_mass = group.kept_mass == nullptr ? nullptr : mass;
    if (group.kept_mass != nullptr) mass += Queries(group.args);
  }
  for (const RowGroup& first : groups_) {
    if (first.done) continue;
    args_.clear();
    for (RowGroup& group : groups_) {
      if (group.done || !Alike(group, first)) continue;
      group.done = true;
      args_.push_back(group.args);
    }
    if (first.k == 0) {
      LECTERN_RETURN_IF_ERROR(
          FromKernel(kernels::DenseAttention(args_, execution), "dense_attention"));
      continue;
    }
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::TopKAttention(args_, ParamsOf(first), execution), "topk_attention"));
  }
  for (const RowGroup& group : groups_) {
    if (group.kept_mass == nullptr) continue;
    group.kept_mass->Add(MassOf(group.args.kept_mass, Queries(group.args)));
  }
  return absl::OkStatus();
}

}  // namespace lectern
