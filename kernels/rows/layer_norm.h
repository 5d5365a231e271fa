// LayerNorm (Ba et al. 2016, arXiv 1607.06450): y = (x - mean) / sqrt(variance + eps) * weight +
// bias with the mean and the variance (divided by cols) of each row.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// x, y [rows, cols], contiguous, may be the same memory. weight, bias [cols].
LaunchStatus LayerNorm(const float* x, int64_t rows, int64_t cols, const float* weight,
                       const float* bias, float eps, float* y, const ExecutionContext& context);

}  // namespace lectern::kernels
