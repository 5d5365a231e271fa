// Divides an attention call into work for threads. Private to kernels/.
//
// A block is some rows of one sequence and one KV head. When there are fewer blocks than threads
// would like (decode), the key range of each block is cut into parts at span borders; results do
// not depend on it (attention_task.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/attention/attention_task.h"
#include "kernels/runtime/thread_team.h"

namespace lectern::kernels::internal {

struct AttentionBlock {
  AttentionTask task;  // over all spans that its rows see
  int64_t parts = 1;
};

struct AttentionPlan {
  // Chains run in parallel, the blocks of a chain one after the other: all blocks of a sequence and
  // KV head form one chain when key_mass is asked for, so that its sums have a fixed order.
  std::vector<std::vector<AttentionBlock>> chains;
  bool any_split = false;
  int64_t max_queries = 0;
  int64_t work = 0;  // scores of visible keys, roughly
};

// How tasks use the bounds of pages before they read keys.
enum class PageBounds {
  kNone,
  kSkip,    // single rows of long sequences skip pages that cannot hold a kept key
  kBudget,  // every row chooses its pages over its whole key range
};

// `queries` and `chunk_pages`: of a task.
inline AttentionPlan PlanAttention(std::span<const AttentionArgs> batch, int num_threads,
                                   int queries, int64_t chunk_pages,
                                   PageBounds bounds = PageBounds::kNone) {
  constexpr int64_t kWorthBounding = 4096;  // keys
  if (bounds == PageBounds::kBudget) queries = 1;
  AttentionPlan plan;
  int64_t blocks = 0;
  for (const AttentionArgs& args : batch) {
    const int64_t group = args.num_q_heads / args.layout.num_kv_heads;
    const int64_t block_rows = std::max<int64_t>(1, queries / group);
    for (int kv_head = 0; kv_head < args.layout.num_kv_heads; ++kv_head) {
      bool new_chain = true;
      for (int64_t row = 0; row < args.rows; row += block_rows) {
        AttentionTask task{.args = &args, .kv_head = kv_head, .first_row = row};
        task.rows = std::min(block_rows, args.rows - row);
        const int64_t end = EndVisible(args, row + task.rows - 1);
        const int64_t begin = std::min(FirstVisible(args, row), end);
        task.first_span = begin / kSpanTokens;
        task.end_span = (end + kSpanTokens - 1) / kSpanTokens;
        task.chunk_pages = chunk_pages;
        task.bounds_pages =
            bounds == PageBounds::kBudget ||
            (bounds == PageBounds::kSkip && task.rows == 1 && end >= kWorthBounding &&
             args.window <= 0 && args.bias == nullptr && args.key_padding == nullptr);
        if (new_chain || args.key_mass == nullptr) plan.chains.emplace_back();
        new_chain = false;
        plan.chains.back().push_back({task, 1});
        plan.max_queries = std::max(plan.max_queries, TaskQueries(task));
        plan.work += TaskQueries(task) * (end - begin);
        ++blocks;
      }
    }
  }
  if (num_threads > 1 && blocks < 4 * num_threads && bounds != PageBounds::kBudget) {
    const int64_t parts = (2 * num_threads + blocks - 1) / blocks;
    for (std::vector<AttentionBlock>& chain : plan.chains) {
      AttentionBlock& block = chain.front();
      if (chain.size() > 1 || block.task.args->key_mass != nullptr) continue;
      block.parts = std::clamp<int64_t>(SpansOf(block.task), 1, parts);
      plan.any_split |= block.parts > 1;
    }
  }
  return plan;
}

// Moves the blocks whose key range is cut out of the plan; what stays is run as a whole.
inline std::vector<AttentionBlock> TakeSplitBlocks(AttentionPlan& plan) {
  std::vector<AttentionBlock> split;
  if (!plan.any_split) return split;
  for (const std::vector<AttentionBlock>& chain : plan.chains) {
    if (chain.front().parts > 1) split.push_back(chain.front());
  }
  std::erase_if(plan.chains, [](const auto& chain) { return chain.front().parts > 1; });
  return split;
}

// Scratch of one task, 64-byte aligned. The calling thread keeps it for its next task.
inline float* TaskScratch(const AttentionTask& task) {
  static thread_local std::vector<float> scratch;
  constexpr size_t kAlignment = 64;
  const size_t need = CutScratch(task, nullptr).floats + kAlignment / sizeof(float);
  if (scratch.size() < need) scratch.resize(need);
  void* start = scratch.data();
  size_t room = scratch.size() * sizeof(float);
  return static_cast<float*>(std::align(kAlignment, room - kAlignment, start, room));
}

// Part `part` of `parts` of a block.
inline AttentionTask PartOf(const AttentionBlock& block, int64_t part) {
  AttentionTask task = block.task;
  const int64_t spans = SpansOf(block.task);
  task.end_span = task.first_span + spans * (part + 1) / block.parts;
  task.first_span += spans * part / block.parts;
  return task;
}

// Below this many scores a second thread costs more than it saves.
inline constexpr int64_t kParallelWork = 4096;

// Calls body(i) for i in [0, count) on a team of threads. A free thread takes the next item.
template <typename Body>
void ForEachItem(int num_threads, int64_t count, Body body) {
  ForItems(num_threads, {.count = count, .most = 1}, [&](ItemRange range, int) {
    for (int64_t i = range.begin; i < range.end; ++i) body(i);
  });
}

// One buffer per KV head for key_mass, added to the caller's in order of heads at the end.
class KeyMassBuffers {
 public:
  explicit KeyMassBuffers(std::span<const AttentionArgs> batch) {
    for (const AttentionArgs& args : batch) {
      buffers_.emplace_back(
          args.key_mass == nullptr ? 0 : args.table.num_tokens * args.layout.num_kv_heads);
    }
    batch_ = batch;
  }
  float* Of(const AttentionTask& task) {
    std::vector<float>& buffer = buffers_[task.args - batch_.data()];
    return buffer.empty() ? nullptr : buffer.data() + task.kv_head * task.args->table.num_tokens;
  }
  void AddUp() {
    for (size_t i = 0; i < batch_.size(); ++i) {
      const int64_t n = batch_[i].table.num_tokens;
      for (size_t at = 0; at < buffers_[i].size(); ++at) {
        batch_[i].key_mass[static_cast<int64_t>(at) % n] += buffers_[i][at];
      }
    }
  }

 private:
  std::span<const AttentionArgs> batch_;
  std::vector<std::vector<float>> buffers_;
};

}  // namespace lectern::kernels::internal
