// The activation of SwiGLU (Shazeer 2020, arXiv 2002.05202): out = silu(gate) * up, element by
// element.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// gate, up, out: [rows, cols] with row strides in floats; out may be gate.
LaunchStatus SiluMul(const float* gate, int64_t gate_stride, const float* up, int64_t up_stride,
                     int64_t rows, int64_t cols, float* out, int64_t out_stride,
                     const ExecutionContext& context);

}  // namespace lectern::kernels
