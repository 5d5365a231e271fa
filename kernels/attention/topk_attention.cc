#include "kernels/attention/topk_attention.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/attention/attention_plan.h"
#include "kernels/attention/dense_attention.h"

namespace lectern::kernels {
namespace {

using namespace internal;  // NOLINT: the private half of this file

// Memory for the candidates of some queries, reused from call to call.
class CandidateStore {
 public:
  void Reset(int64_t queries, int64_t capacity, int64_t spans) {
    const size_t floats = queries * (2 * capacity + 2 * spans);
    if (floats_.size() < floats) floats_.resize(floats);
    if (indices_.size() < static_cast<size_t>(queries * capacity)) {
      indices_.resize(queries * capacity);
    }
    candidates_.resize(queries);
    float* at = floats_.data();
    for (int64_t q = 0; q < queries; ++q) {
      candidates_[q] = {.score = at,
                        .index = indices_.data() + q * capacity,
                        .weight = at + capacity,
                        .count = 0,
                        .threshold = -__builtin_inff(),
                        .visible = 0,
                        .spans = reinterpret_cast<SoftmaxSum*>(at + 2 * capacity)};
      at += 2 * capacity + 2 * spans;
    }
  }
  Candidates* data() { return candidates_.data(); }

 private:
  std::vector<float> floats_;
  std::vector<int32_t> indices_;
  std::vector<Candidates> candidates_;
};

// Writes the kept keys of one query by descending score, if the caller asked for them.
void WriteKept(const TopKParams& params, const AttentionArgs& args, int64_t row, int64_t head,
               const Candidates& c) {
  const int64_t at = (row * args.num_q_heads + head) * params.k;
  std::vector<int64_t> order(c.count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return c.score[a] > c.score[b]; });
  for (int64_t i = 0; i < params.k; ++i) {
    const bool used = i < c.count;
    if (params.kept_index) params.kept_index[at + i] = used ? c.index[order[i]] : -1;
    if (params.kept_weight) params.kept_weight[at + i] = used ? c.weight[order[i]] : 0.0f;
  }
}

TopKParams WithUsefulK(std::span<const AttentionArgs> batch, TopKParams params) {
  int64_t longest = 1;
  for (const AttentionArgs& args : batch) longest = std::max(longest, args.table.num_tokens);
  params.k = std::min(params.k, longest);
  return params;
}

bool NeedsSums(const AttentionArgs& args, const TopKParams& params) {
  return params.tail == Tail::kMean || args.kept_mass != nullptr || args.key_mass != nullptr;
}

PageBounds BoundsOf(std::span<const AttentionArgs> batch, const TopKParams& params) {
  if (params.page_budget > 0) return PageBounds::kBudget;
  for (const AttentionArgs& args : batch) {
    if (NeedsSums(args, params)) return PageBounds::kNone;
  }
  return PageBounds::kSkip;
}

class TopKCall {
 public:
  TopKCall(std::span<const AttentionArgs> batch, const TopKParams& params,
           const ExecutionContext& context)
      : batch_(batch),
        asked_(params),
        params_(WithUsefulK(batch, params)),
        ops_(AttentionOpsFor(context.isa)),
        plan_(PlanAttention(batch, context.num_threads, kTopKQueriesInFlight, kChunkPages,
                            BoundsOf(batch, params))),
        key_mass_(batch),
        threads_(plan_.work < kParallelWork ? 1 : context.num_threads) {}

  void Run() {
    CutSplitBlocks();
    const auto chains = static_cast<int64_t>(plan_.chains.size());
    const auto parts = static_cast<int64_t>(parts_.size());
    ForEachItem(threads_, chains + parts, [&](int64_t i) {
      i < chains ? RunChain(plan_.chains[i]) : ScanPart(parts_[i - chains]);
    });
    ForEachItem(threads_, static_cast<int64_t>(split_.size()),
                [&](int64_t i) { FinishSplit(split_[i]); });
    key_mass_.AddUp();
  }

 private:
  struct SplitBlock {
    AttentionBlock block;
    CandidateStore* parts;  // [block.parts]
  };
  struct SplitPart {
    SplitBlock* split;
    int64_t number;
  };

  // Moves the blocks whose key range is divided from the plan to split_.
  void CutSplitBlocks() {
    // Kept by the calling thread: decoding comes here once per layer and token.
    static thread_local std::vector<CandidateStore> stores;
    const std::vector<AttentionBlock> blocks = TakeSplitBlocks(plan_);
    size_t count = 0;
    for (const AttentionBlock& block : blocks) count += block.parts;
    if (stores.size() < count) stores.resize(count);
    CandidateStore* next = stores.data();
    for (const AttentionBlock& block : blocks) {
      split_.push_back({block, next});
      next += block.parts;
    }
    for (SplitBlock& split : split_) {
      for (int64_t p = 0; p < split.block.parts; ++p) parts_.push_back({&split, p});
    }
  }

  void RunChain(const std::vector<AttentionBlock>& chain) {
    static thread_local CandidateStore store;
    for (const AttentionBlock& block : chain) {
      store.Reset(TaskQueries(block.task), Capacity(params_.k), SpansOf(block.task));
      float* scratch = TaskScratch(block.task);
      ops_.prepare(block.task, scratch);
      ops_.topk_scan(block.task, params_, NeedsSums(*block.task.args, params_), scratch,
                     store.data());
      Finish(block.task, scratch, store.data());
    }
  }

  void ScanPart(const SplitPart& part) {
    const AttentionBlock& block = part.split->block;
    const AttentionTask task = PartOf(block, part.number);
    CandidateStore& store = part.split->parts[part.number];
    // The first part has room for the candidates of all.
    const int64_t room = part.number == 0 ? block.parts : 1;
    store.Reset(TaskQueries(task), room * Capacity(params_.k), SpansOf(block.task));
    float* scratch = TaskScratch(task);
    ops_.prepare(task, scratch);
    ops_.topk_scan(task, params_, NeedsSums(*task.args, params_), scratch, store.data());
  }

  void FinishSplit(SplitBlock& split) {
    const AttentionTask& task = split.block.task;
    Candidates* all = split.parts[0].data();
    for (int64_t p = 1; p < split.block.parts; ++p) {
      const AttentionTask part = PartOf(split.block, p);
      for (int64_t q = 0; q < TaskQueries(task); ++q) {
        const Candidates& c = split.parts[p].data()[q];
        std::copy(c.score, c.score + c.count, all[q].score + all[q].count);
        std::copy(c.index, c.index + c.count, all[q].index + all[q].count);
        std::copy(c.spans, c.spans + SpansOf(part),
                  all[q].spans + (part.first_span - task.first_span));
        all[q].count += c.count;
        all[q].visible += c.visible;
      }
    }
    float* scratch = TaskScratch(task);
    ops_.prepare(task, scratch);
    Finish(task, scratch, all);
  }

  void Finish(const AttentionTask& task, float* scratch, Candidates* candidates) {
    const AttentionArgs& args = *task.args;
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    const int64_t spans = NeedsSums(args, params_) ? SpansOf(task) : 0;
    const bool want_kept = &args == batch_.data() && (params_.kept_index || params_.kept_weight);
    ops_.topk_finish(task, params_, spans, scratch, candidates, key_mass_.Of(task));
    for (int64_t q = 0; want_kept && q < TaskQueries(task); ++q) {
      WriteKept(asked_, args, task.first_row + q / group, task.kv_head * group + q % group,
                candidates[q]);
    }
  }

  const std::span<const AttentionArgs> batch_;
  const TopKParams& asked_;
  const TopKParams params_;  // with k as large as can matter, which bounds the scratch
  const AttentionOps& ops_;
  AttentionPlan plan_;
  KeyMassBuffers key_mass_;
  const int threads_;
  std::vector<SplitBlock> split_;
  std::vector<SplitPart> parts_;
};

}  // namespace

LaunchStatus TopKAttention(std::span<const AttentionArgs> batch, const TopKParams& params,
                           const ExecutionContext& context) {
  if (params.k <= 0) {
    // There is no [.., k] to write kept keys into.
    const bool wants_kept = params.kept_index != nullptr || params.kept_weight != nullptr;
    return wants_kept ? LaunchStatus::kBadArgument : DenseAttention(batch, context);
  }
  if (context.num_threads < 1 || context.isa > BestIsa()) return LaunchStatus::kBadArgument;
  for (const AttentionArgs& args : batch) {
    if (const LaunchStatus status = CheckArgs(args); !Ok(status)) return status;
    const bool masked = args.bias != nullptr || args.key_padding != nullptr;
    if (params.page_budget > 0 && masked) return LaunchStatus::kUnsupported;
  }
  if (params.page_budget < 0) return LaunchStatus::kBadArgument;
  TopKCall(batch, params, context).Run();
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
