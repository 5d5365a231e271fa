// The interface between the attention kernels and their versions for each instruction set. Private
// to kernels/.
//
// One AttentionTask is a block of query rows of one sequence and one KV head: rows x group query
// vectors that read the same keys. Keys are visited in order, a chunk at a time: the scores of a
// chunk stay in the L2 cache. Sums over keys are kept per span of kSpanTokens keys and the spans
// are folded in order, so that cutting the key range over threads gives the same bits as one pass.
//
// Functions here are `static inline`, and no template of the standard library is used: code
// compiled for one instruction set must not be merged with the copies of another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/attention_args.h"
#include "kernels/attention/topk_attention.h"
#include "kernels/kv/kv_layout.h"

namespace lectern::kernels::internal {

inline constexpr int64_t kSpanTokens = 1024;
inline constexpr int64_t kSpanPages = kSpanTokens / kPageTokens;
// Keys whose scores are held at once by top-k; dense attention holds those of a span.
inline constexpr int64_t kChunkPages = 8 * kSpanPages;
// Scores of a page in groups, for bounds: group g has the keys g, g + 16, g + 32 and g + 48.
inline constexpr int kGroupsPerPage = 16;
// Query vectors of one task, at most max(these, group). Dense attention unpacks the values of a
// page for all of them; top-k holds more scores per query.
inline constexpr int kDenseQueriesInFlight = 24;
inline constexpr int kTopKQueriesInFlight = 12;

struct AttentionTask {
  const AttentionArgs* args = nullptr;
  int kv_head = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  // Keys [first_span * kSpanTokens, end_span * kSpanTokens); first_span <= end_span.
  int64_t first_span = 0;
  int64_t end_span = 0;
  int64_t chunk_pages = 0;    // pages whose scores are held at once
  bool bounds_pages = false;  // looks at the bounds of pages first; rows is 1
};

// Sum of e^(s - max) over a part of the keys; max, in the task's units of a score
// (attention_scores.h), is -inf for an empty part.
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

static inline int64_t SpansOf(const AttentionTask& task) { return task.end_span - task.first_span; }

static inline int64_t TaskQueries(const AttentionTask& task) {
  return task.rows * (task.args->num_q_heads / task.args->layout.num_kv_heads);
}

// The scratch of a task, cut up; every part is 64-byte aligned if the scratch is.
struct AttentionScratch {
  int64_t row_pages;   // the chunk's pages and one, so that queries do not compete for cache sets
  float* scores;       // [queries, row_pages, 64]
  float* maxima;       // [queries, row_pages, 16] of each group
  float* merged;       // [row_pages, 16]
  float* query;        // [queries, head_dim] fp32, or int8 rows (attention_scores.h)
  float* unit;         // [queries]: the unit of a stored score
  int32_t* query_sum;  // [queries], AVX2: of the numbers of an int8 row
  int32_t* pages;      // the pages that are read, ascending
  float* page_bound;   // [queries, all pages], if the task bounds pages
  float* page_rank;    // [all pages], if the task bounds pages
  float* plain_query;  // [queries, head_dim], if the task bounds pages
  float* values;       // [64 + 1, value_dim] values of a page
  float* value_sum;    // [value_dim]
  int16_t* weights;    // [queries, 64]
  float* weight_unit;  // [queries]
  int64_t floats;      // total size

  float* Scores(int64_t query_number, int64_t slot) const {
    return scores + (query_number * row_pages + slot) * kPageTokens;
  }
  float* Maxima(int64_t query_number, int64_t slot) const {
    return maxima + (query_number * row_pages + slot) * kGroupsPerPage;
  }
};
static inline AttentionScratch CutScratch(const AttentionTask& task, float* scratch) {
  const KvPageLayout& layout = task.args->layout;
  const int64_t queries = TaskQueries(task);
  const int64_t pages = KvPageLayout::PagesFor(task.args->table.num_tokens);
  AttentionScratch s;
  s.row_pages = (pages < task.chunk_pages ? pages : task.chunk_pages) + 1;
  int64_t at = 0;
  const auto take = [&](int64_t floats) {
    float* const part = scratch == nullptr ? nullptr : scratch + at;
    at += (floats + 15) / 16 * 16;
    return part;
  };
  s.scores = take(queries * s.row_pages * kPageTokens);
  s.maxima = take(queries * s.row_pages * kGroupsPerPage);
  s.merged = take(s.row_pages * kGroupsPerPage);
  s.query = take(queries * (layout.head_dim + 8));
  s.unit = take(queries);
  s.query_sum = reinterpret_cast<int32_t*>(take(queries));
  s.pages = reinterpret_cast<int32_t*>(take(pages));
  const int64_t bounded = task.bounds_pages ? 1 : 0;
  s.page_bound = take(bounded * queries * pages);
  s.page_rank = take(bounded * pages);
  s.plain_query = take(bounded * queries * layout.head_dim);
  s.values = take((kPageTokens + 1) * static_cast<int64_t>(layout.value_dim));
  s.value_sum = take(layout.value_dim);
  s.weights = reinterpret_cast<int16_t*>(take(queries * kPageTokens / 2));
  s.weight_unit = take(queries);
  s.floats = at;
  return s;
}

struct AttentionOps {
  // Prepares the queries of a task in scratch (quantised for kI8). First call of a task, and of
  // every scratch that a part of it runs with.
  void (*prepare)(const AttentionTask& task, float* scratch);
  // Scans the task's keys; candidates[q] with q = row * group + head, initialised by the caller.
  void (*topk_scan)(const AttentionTask& task, const TopKParams& params, bool need_sum,
                    float* scratch, Candidates* candidates);
  // Writes the outputs of all rows from the candidates, whose spans cover the task's key range
  // (num_spans of them, or 0 without sums), and leaves the k kept keys in them. key_mass, or null,
  // gets the dense shares of the kept keys.
  void (*topk_finish)(const AttentionTask& task, const TopKParams& params, int64_t num_spans,
                      float* scratch, Candidates* candidates, float* key_mass);
  // Scans one span (first_span) into partial[q].
  void (*dense_scan)(const AttentionTask& task, float* scratch, DensePartial* partial);
  // total += part, both [queries].
  void (*dense_fold)(const AttentionTask& task, float* scratch, DensePartial* total,
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

struct PageRange {
  int64_t first, end;  // empty unless first < end
};

// The pages that any of `rows` rows from `first_row` on sees through causality and window.
static inline PageRange VisiblePages(const AttentionArgs& args, int64_t first_row, int64_t rows) {
  return {FirstVisible(args, first_row) / kPageTokens,
          (EndVisible(args, first_row + rows - 1) + kPageTokens - 1) / kPageTokens};
}

}  // namespace lectern::kernels::internal
