// A feed-forward layer in fp32 that computes only the k hidden units of largest rank for each row
// (Gupta et al. 2021, arXiv 2106.06899, section 2.2; docs/specs/topk_attention_and_ff.md):
//
//   z = gate x;  h = f(z) [* up x];  T = the k units of largest rank;  y = sum over T of h_u down_u
//
// Ranks by the gate alone (kPre, kGateAbs) read the rows of `up` and `down` for the kept units
// only, kProduct and kNorm those of `down`. The server keeps the same units
// (kernels/ffn/topk_ffn.h) after it has computed all of them; what a layer gains that skips the
// others is measured with this one.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::bench {

// The rank of a unit: z is its pre-activation (of the gate in a gated layer), f the activation, up
// its second factor (1 in an ungated layer), and V its row of `down`.
enum class UnitRank {
  kPre,      // z, signed: the rule of the paper
  kGateAbs,  // |f(z)|
  kProduct,  // |f(z) up|
  kNorm,     // |f(z) up| |V|
};

// One row for each hidden unit, contiguous and finite. Not owned.
struct FeedForwardWeights {
  int64_t width = 0;            // of x
  int64_t units = 0;            // below 2^31
  int64_t out_width = 0;        // of y
  const float* gate = nullptr;  // [units, width]: W_gate, or W_in of an ungated layer
  const float* up = nullptr;    // [units, width]; null in an ungated layer
  const float* down = nullptr;  // [units, out_width]: W_out transposed
  kernels::FfnActivation activation = kernels::FfnActivation::kSilu;
};

struct UnitSelection {
  int64_t k = 0;  // <= 0 or >= units: all units
  UnitRank rank = UnitRank::kGateAbs;
  // [rows, k] or null: the kept units of each row, ascending, then -1. Units that a ReLU makes 0
  // are left out. Not written when all units are kept.
  int32_t* kept_units = nullptr;
};

// x [rows, width] and y [rows, out_width] must not overlap. Equal ranks keep the lower unit.
// NaN ranks lowest: it is kept, and makes its row NaN, only where fewer than k units have a number.
//
// A row's result depends on that row alone, bit for bit: not on the other rows, nor on the threads.
// Scratch: O(units) for each of at most 24 rows, and for each thread.
kernels::LaunchStatus TopKFeedForward(const float* x, int64_t rows,
                                      const FeedForwardWeights& weights,
                                      const UnitSelection& selection, float* y,
                                      const kernels::ExecutionContext& context);

}  // namespace lectern::bench
