// The activation of a feed-forward layer: out = f(z) * up in a gated layer, f(z) in an ungated one.
#pragma once

#include <cstdint>

#include "kernels/ffn/ffn_activation.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// z, up, out: [rows, cols] with row strides in floats; up is null in an ungated layer; out may
// be z.
LaunchStatus Activate(FfnActivation activation, const float* z, int64_t z_stride, const float* up,
                      int64_t up_stride, int64_t rows, int64_t cols, float* out, int64_t out_stride,
                      const ExecutionContext& context);

}  // namespace lectern::kernels
