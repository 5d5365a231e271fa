// Exact top-k attention over paged keys (Gupta et al. 2021, arXiv 2106.06899, section 2; semantics
// in docs/specs/topk_attention_and_ff.md).
//
// For each query row the k largest visible scores are kept and the softmax runs over them:
//   s_j = scale * q.k_j + bias_j,  T = the k largest s_j,  o = sum_{j in T} p_j v_j
// Order is by (score descending, key index ascending): exact ties keep the lower index. A row that
// sees fewer than k keys keeps all of them, which equals dense attention. A row that sees none
// gives zeros, mass 0 and indices -1. k >= num_tokens keeps all visible keys, and so equals dense
// attention up to rounding; k <= 0 calls DenseAttention (kept_* must then be null). A NaN score
// counts as -inf but its key stays visible only if nothing else fills the k places (it is never
// preferred).
//
// Scores of at most 8,192 keys are held per query in flight: scratch does not grow with num_tokens
// beyond that, except for 12 bytes a page.
//
// Where nothing asks for sums over all keys (tail none, no kept or key mass), a single row of a
// long sequence skips the pages whose upper bound is below its k-th score so far: no kept key can
// lie there. Results do not depend on num_threads, nor on how rows are cut into calls.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention/attention_args.h"

namespace lectern::kernels {

enum class Tail {
  kNone,  // the paper: renormalise over the kept keys
  // o = sum_{j in T} (e^{s_j} / Z) v_j + (1 - m) * mean of the dropped visible values, with Z over
  // all visible keys and m the kept share (SparQ attention, Ribar et al. 2023, eq. 6, for every
  // row).
  kMean,
};

struct TopKParams {
  int64_t k = 0;
  Tail tail = Tail::kNone;
  // Full pages that each row and KV head reads, 0 = all. An approximation (Quest, Tang et al. 2024,
  // arXiv 2406.10774): of the pages that the row sees, those with the highest upper bounds of any
  // query head's score, and always the last page, those not seen whole, and the first page of the
  // document. k and the softmax sums then run over these. Only without padding and bias
  // (kUnsupported).
  int64_t page_budget = 0;
  // Optional outputs, for the first sequence only when several are given. Only the golden and
  // precision tests ask for them.
  int32_t* kept_index = nullptr;  // [rows, num_q_heads, k] by descending score, -1 = unused
  float* kept_weight = nullptr;   // [rows, num_q_heads, k] weight of each kept value in o
};

// One call may carry several sequences (a batch of questions); they share shapes except rows and
// num_tokens. Thread-safe.
LaunchStatus TopKAttention(std::span<const AttentionArgs> batch, const TopKParams& params,
                           const ExecutionContext& context);

}  // namespace lectern::kernels
