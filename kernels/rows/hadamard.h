// Orthonormal Walsh-Hadamard transform of consecutive blocks: spreads outlier channels before
// quantisation (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456).
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// Transforms each block of `block` (a power of two) of x [rows, cols] in place, scaled by
// 1/sqrt(block), so that it is its own inverse. cols must be a multiple of block; row stride in
// floats.
LaunchStatus BlockHadamard(float* x, int64_t rows, int64_t cols, int64_t row_stride, int64_t block,
                           const ExecutionContext& context);

// The scale of the transform: 1 / sqrt(block).
float HadamardScale(int64_t block);

}  // namespace lectern::kernels
