// RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467): y = x / sqrt(mean(x^2) + eps) * weight.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// x, y [rows, cols], contiguous, may be the same memory. weight [cols] or null (ones).
LaunchStatus RmsNorm(const float* x, int64_t rows, int64_t cols, const float* weight, float eps,
                     float* y, const ExecutionContext& context);

// x += factor * RMSNorm(a); a, x [rows, cols], contiguous, not the same memory. weight [cols].
LaunchStatus RmsNormAdd(const float* a, int64_t rows, int64_t cols, const float* weight, float eps,
                        float factor, float* x, const ExecutionContext& context);

}  // namespace lectern::kernels
