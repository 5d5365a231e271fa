// Top-k feed-forward (Gupta et al. 2021, arXiv 2106.06899, section 2.2) for gated layers: of each
// row of activations only the k units of largest rank stay, the others become 0.
#pragma once

#include <cstdint>

#include "kernels/execution_context.h"
#include "kernels/launch_status.h"

namespace lectern::kernels {

// What a unit's rank is; silu(gate) * up is its activation.
enum class FfnRank {
  kProduct,  // |silu(gate) * up|
  kGateAbs,  // |silu(gate)|
};

// activated [rows, cols] holds silu(gate) * up and is cut in place; gate [rows, cols] is needed for
// kGateAbs alone and may be null otherwise. Strides in floats. Equal ranks keep the lower unit; NaN
// ranks lowest. k >= cols keeps all. A row's result depends on that row alone.
LaunchStatus TopKFfn(const float* gate, int64_t gate_stride, FfnRank rank, int64_t k, int64_t rows,
                     int64_t cols, float* activated, int64_t activated_stride,
                     const ExecutionContext& context);

}  // namespace lectern::kernels
