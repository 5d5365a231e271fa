#include "kernels/attention/dense_attention.h"

#include <vector>

#include "kernels/attention/attention_plan.h"

namespace lectern::kernels {
namespace {

using namespace internal;  // NOLINT: the private half of this file

class PartialStore {
 public:
  void Reset(int64_t queries, int64_t value_dim) {
    values_.assign(queries * value_dim, 0.0f);
    partials_.resize(queries);
    for (int64_t q = 0; q < queries; ++q) {
      partials_[q] = {{-__builtin_inff(), 0.0f}, values_.data() + q * value_dim};
    }
  }
  DensePartial* data() { return partials_.data(); }

 private:
  std::vector<float> values_;
  std::vector<DensePartial> partials_;
};

class DenseCall {
 public:
  DenseCall(std::span<const AttentionArgs> batch, const ExecutionContext& context)
      : ops_(AttentionOpsFor(context.isa)),
        plan_(PlanAttention(batch, context.num_threads, kDenseQueriesInFlight, kSpanPages)),
        key_mass_(batch),
        threads_(plan_.work < kParallelWork ? 1 : context.num_threads) {}

  void Run() {
    CutSplitBlocks();
    const auto chains = static_cast<int64_t>(plan_.chains.size());
    const auto parts = static_cast<int64_t>(parts_.size());
    ForEachItem(threads_, chains + parts, [&](int64_t i) {
      if (i >= chains) return ScanPart(*parts_[i - chains].first, parts_[i - chains].second);
      for (const AttentionBlock& block : plan_.chains[i]) RunBlock(block.task);
    });
    ForEachItem(threads_, static_cast<int64_t>(split_.size()),
                [&](int64_t i) { FoldSplit(split_[i]); });
    key_mass_.AddUp();
  }

 private:
  struct SplitBlock {
    AttentionTask task;
    std::vector<PartialStore> spans;  // from task.first_span on
  };

  void CutSplitBlocks() {
    for (const AttentionBlock& block : TakeSplitBlocks(plan_)) {
      split_.push_back({block.task, std::vector<PartialStore>(SpansOf(block.task))});
    }
    for (SplitBlock& split : split_) {
      for (int64_t span = split.task.first_span; span < split.task.end_span; ++span) {
        parts_.push_back({&split, span});
      }
    }
  }

  void ScanPart(SplitBlock& split, int64_t span) {
    AttentionTask task = split.task;
    task.first_span = span;
    task.end_span = span + 1;
    PartialStore& partial = split.spans[span - split.task.first_span];
    partial.Reset(TaskQueries(task), task.args->layout.value_dim);
    float* scratch = TaskScratch(task);
    ops_.prepare(task, scratch);
    ops_.dense_scan(task, scratch, partial.data());
  }

  void FoldSplit(SplitBlock& split) {
    float* scratch = TaskScratch(split.task);
    ops_.prepare(split.task, scratch);
    for (size_t span = 1; span < split.spans.size(); ++span) {
      ops_.dense_fold(split.task, scratch, split.spans[0].data(), split.spans[span].data());
    }
    Finish(split.task, split.spans[0].data());
  }

  void RunBlock(const AttentionTask& block) {
    static thread_local PartialStore total, part;
    const int64_t queries = TaskQueries(block);
    const int value_dim = block.args->layout.value_dim;
    total.Reset(queries, value_dim);
    float* scratch = TaskScratch(block);
    ops_.prepare(block, scratch);
    AttentionTask task = block;
    for (int64_t span = block.first_span; span < block.end_span; ++span) {
      task.first_span = span;
      task.end_span = span + 1;
      // The first span goes straight into the total: folding into nothing would copy it.
      PartialStore& into = span == block.first_span ? total : part;
      into.Reset(queries, value_dim);
      ops_.dense_scan(task, scratch, into.data());
      if (span > block.first_span) ops_.dense_fold(task, scratch, total.data(), part.data());
    }
    if (float* key_mass = key_mass_.Of(block); key_mass != nullptr) {
      for (int64_t span = block.first_span; span < block.end_span; ++span) {
        task.first_span = span;
        ops_.dense_key_mass(task, scratch, total.data(), key_mass);
      }
    }
    Finish(block, total.data());
  }

  static void Finish(const AttentionTask& task, const DensePartial* totals) {
    const AttentionArgs& args = *task.args;
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    const int value_dim = args.layout.value_dim;
    for (int64_t q = 0; q < TaskQueries(task); ++q) {
      const int64_t row = task.first_row + q / group;
      const int64_t head = task.kv_head * group + q % group;
      const bool empty = totals[q].sum.max == -__builtin_inff();
      const float factor = empty ? 0.0f : 1.0f / totals[q].sum.sum;
      float* out = args.out + row * args.out_stride + head * value_dim;
      for (int c = 0; c < value_dim; ++c) out[c] = totals[q].out[c] * factor;
      if (args.kept_mass != nullptr) {
        args.kept_mass[row * args.num_q_heads + head] = empty ? 0.0f : 1.0f;
      }
    }
  }

  const AttentionOps& ops_;
  AttentionPlan plan_;
  KeyMassBuffers key_mass_;
  const int threads_;
  std::vector<SplitBlock> split_;
  std::vector<std::pair<SplitBlock*, int64_t>> parts_;
};

}  // namespace

LaunchStatus DenseAttention(std::span<const AttentionArgs> batch, const ExecutionContext& context) {
  if (context.num_threads < 1 || context.isa > BestIsa()) return LaunchStatus::kBadArgument;
  for (const AttentionArgs& args : batch) {
    if (const LaunchStatus status = CheckArgs(args); !Ok(status)) return status;
  }
  DenseCall(batch, context).Run();
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
