// What the instruction-set versions of the attention kernels share. Private to kernels/.
//
// One AttentionTask is a block of query rows of one sequence and one KV head: rows x group query
// vectors that read the same keys. Keys are visited page by page, in order. Sums over keys are kept
// per span of kSpanTokens keys and the spans are folded in order, so that cutting the key range
// over threads gives the same bits as one pass.
//
// Functions here are `static inline`, and nothing here is a template of the standard library: what
// is compiled for one instruction set must not be merged with the copies of another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_args.h"
#include "kernels/kv_layout.h"
#include "kernels/topk_attention.h"

namespace lectern::kernels::internal {

inline constexpr int64_t kSpanTokens = 1024;
inline constexpr int64_t kSpanPages = kSpanTokens / kPageTokens;
inline constexpr int kQueriesInFlight = 24;  // query vectors of one task, at most max(this, group)

struct AttentionTask {
  const AttentionArgs* args = nullptr;
  int kv_head = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_span = 0;  // keys [first_span * kSpanTokens, end_span * kSpanTokens)
  int64_t end_span = 0;
};

// Sum of e^(s - max) over a part of the keys; max is -inf for an empty part.
struct SoftmaxSum {
  float max;
  float sum;
};

// The candidates of one query: every key that may be among the k best, by ascending index.
struct Candidates {
  float* score;    // [Capacity(k)]
  int32_t* index;  // [Capacity(k)]
  float* weight;   // [Capacity(k)], written by topk_finish
  int64_t count;
  float threshold;    // a key must score above it
  int64_t visible;    // keys seen
  SoftmaxSum* spans;  // [end_span - first_span], if sums are needed
};

// Room for the candidates: pruned to about k when fewer than a page's keys fit.
static inline int64_t Capacity(int64_t k) { return 3 * k + 256; }

// One query of a dense task: the softmax sum and the weighted values, not yet divided.
struct DensePartial {
  SoftmaxSum sum;
  float* out;  // [value_dim]
};

// Scratch of a task, sized by ScratchFloats().
static inline int64_t TaskQueries(const AttentionTask& task) {
  return task.rows * (task.args->num_q_heads / task.args->layout.num_kv_heads);
}
static inline int64_t ScratchFloats(const AttentionArgs& args, int64_t queries) {
  const int64_t scores = queries * kPageTokens;
  const int64_t quantised = queries * (args.layout.head_dim + 8);
  const int64_t values = static_cast<int64_t>(kPageTokens + 4) * args.layout.value_dim;
  return scores + quantised + values + queries * 32 + 256;
}

struct AttentionOps {
  // Prepares the queries of a task in scratch (quantised for kI8). First call of a task.
  void (*prepare)(const AttentionTask& task, float* scratch);
  // Scans the task's keys; candidates[q] with q = row * group + head, initialised by the caller.
  void (*topk_scan)(const AttentionTask& task, int64_t k, bool need_sum, float* scratch,
                    Candidates* candidates);
  // Writes the outputs of one row (all heads of the group) from candidates[head], whose spans cover
  // the whole key range. key_mass, or null, gets the dense shares of the kept keys.
  void (*topk_finish)(const AttentionTask& task, const TopKParams& params, int64_t row,
                      int64_t num_spans, float* scratch, Candidates* candidates, float* key_mass);
  // Scans one span (first_span) into partial[q].
  void (*dense_scan)(const AttentionTask& task, float* scratch, DensePartial* partial);
  // total += part, both [queries].
  void (*dense_fold)(int64_t queries, int64_t value_dim, DensePartial* total,
                     const DensePartial* part);
  // Adds e^(s - max) / sum of the visible keys of one span to key_mass.
  void (*dense_key_mass)(const AttentionTask& task, float* scratch, const DensePartial* totals,
                         float* key_mass);
};

const AttentionOps& PortableAttentionOps();
const AttentionOps& Avx2AttentionOps();
const AttentionOps& Avx512AttentionOps();
const AttentionOps& AttentionOpsFor(Isa isa);

// Checks shared by both kernels.
LaunchStatus CheckArgs(const AttentionArgs& args);

// Row `row` sees keys [FirstVisible, EndVisible), less padding and bias.
static inline int64_t EndVisible(const AttentionArgs& args, int64_t row) {
  const int64_t causal_end = args.q_offset + row + 1;
  return args.causal && causal_end < args.table.num_tokens ? causal_end : args.table.num_tokens;
}
static inline int64_t FirstVisible(const AttentionArgs& args, int64_t row) {
  const int64_t first = args.q_offset + row - args.window + 1;
  return args.window > 0 && first > 0 ? first : 0;
}

}  // namespace lectern::kernels::internal
