// Top-k feed-forward (Gupta et al. 2021, arXiv 2106.06899, section 2.2): keeps the k units of
// largest rank in each row of activations and sets the others to 0.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// The rank of a unit: z is its pre-activation (of the gate in a gated layer), f the activation, and
// up its second factor (1 in an ungated layer).
enum class FfnRank {
  kProduct,  // |f(z) up|
  kGateAbs,  // |f(z)|
  kPre,      // z, signed: the rule of the paper
};

// activated [rows, cols] holds f(gate) * up, or f(gate) in an ungated layer, and is changed in
// place. gate [rows, cols] holds the pre-activations; it is needed for kGateAbs and kPre and may be
// null for kProduct. Strides in floats. Equal ranks keep the lower unit; NaN ranks lowest. k
// >= cols keeps all. A row's result depends on that row alone.
LaunchStatus TopKFfn(const float* gate, int64_t gate_stride, FfnActivation activation, FfnRank rank,
                     int64_t k, int64_t rows, int64_t cols, float* activated,
                     int64_t activated_stride, const ExecutionContext& context);

}  // namespace lectern::kernels
