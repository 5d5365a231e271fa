// A feed-forward layer in fp32 that computes only the k hidden units of largest rank for each row
// (Gupta et al. 2021, arXiv 2106.06899, section 2.2; ranks of gated layers: topk_ffn.h):
//
//   z = gate x;  h = f(z) [* up x];  T = the k units of largest rank;  y = sum of h_u down_u, u in
//   T
//
// Ranks by the gate alone (kPre, kGateAbs, kGateNorm) need the rows of `up` and `down` for the kept
// units only, kProduct and kNorm those of `down`.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/ffn/topk_ffn.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// One row per hidden unit, rows contiguous; finite. Not owned.
struct FeedForwardWeights {
  int64_t width = 0;            // of x
  int64_t units = 0;            // below 2^31
  int64_t out_width = 0;        // of y
  const float* gate = nullptr;  // [units, width]: W_gate, or W_in of an ungated layer
  const float* up = nullptr;    // [units, width]; null: ungated
  const float* down = nullptr;  // [units, out_width]: W_out transposed
  FfnActivation activation = FfnActivation::kSilu;
};

struct FfnSelection {
  int64_t k = 0;  // <= 0 or >= units: all units
  FfnRank rank = FfnRank::kGateAbs;
  // [units], from FfnUnitNorms, for kNorm and kGateNorm; null: made in the call, which reads all
  // of the weights.
  const float* unit_norms = nullptr;
  // [rows, k] or null: the kept units of each row, ascending, then -1. Units that a ReLU makes 0
  // are left out. Not written when all units are kept.
  int32_t* kept_units = nullptr;
};

// The factors |V_u| (kNorm) or |U_u| |V_u| (kGateNorm) of the units, 1 for the other ranks.
LaunchStatus FfnUnitNorms(const FeedForwardWeights& weights, FfnRank rank, float* norms,
                          const ExecutionContext& context);

// x [rows, width], y [rows, out_width], apart from each other. Equal ranks keep the lower unit. NaN
// ranks lowest: it is kept, and makes its row NaN, only where fewer than k units have a number.
//
// A row's result depends on that row alone, bit for bit: not on the other rows, nor on the threads.
// Scratch: O(units) for each of at most 24 rows, and for each thread.
LaunchStatus TopKFeedForward(const float* x, int64_t rows, const FeedForwardWeights& weights,
                             const FfnSelection& selection, float* y,
                             const ExecutionContext& context);

}  // namespace lectern::kernels
