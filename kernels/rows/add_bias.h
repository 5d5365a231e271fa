// Adds a bias to every row.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// y [rows, cols], dense; bias [cols].
LaunchStatus AddBias(const float* bias, int64_t rows, int64_t cols, float* y,
                     const ExecutionContext& context);

}  // namespace lectern::kernels
