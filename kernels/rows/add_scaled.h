// Adds scaled rows to rows: a branch with a multiplier joins the residual stream.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// y += factor * x; x, y [rows, cols], dense, and not the same memory.
LaunchStatus AddScaled(const float* x, int64_t rows, int64_t cols, float factor, float* y,
                       const ExecutionContext& context);

}  // namespace lectern::kernels
