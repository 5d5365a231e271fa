// Top-k feed-forward (Gupta et al. 2021, arXiv 2106.06899, section 2.2) for layers whose products
// are made elsewhere: of each row of activations only the k units of largest rank stay,
// the others become 0. The whole layer is sparse_ffn.h.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// What a unit's rank is. z is its pre-activation (of the gate in a gated layer), f the activation,
// up its second factor (1 in an ungated layer), U and V its rows of the up and down matrices.
enum class FfnRank {
  kProduct,   // |f(z) up|
  kGateAbs,   // |f(z)|
  kPre,       // z, signed: the rule of the paper
  kNorm,      // |f(z) up| |V|
  kGateNorm,  // |f(z)| |U| |V|: the weighting of WINA (arXiv 2505.19427) where CATS cuts
};

// activated [rows, cols] holds f(gate) * up, or f(gate) in an ungated layer, and is cut in place;
// gate [rows, cols], before the activation, is needed for kGateAbs and kPre and may be null for
// kProduct; the ranks with norms are unsupported. Strides in floats. Equal ranks keep the lower
// unit; NaN ranks lowest. k >= cols keeps all. A row's result depends on that row alone.
LaunchStatus TopKFfn(const float* gate, int64_t gate_stride, FfnActivation activation, FfnRank rank,
                     int64_t k, int64_t rows, int64_t cols, float* activated,
                     int64_t activated_stride, const ExecutionContext& context);

}  // namespace lectern::kernels
