// Scales and caps logits.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// x [rows, cols], dense, in place: x becomes cap * tanh(factor * x / cap), or factor * x where cap
// is 0.
LaunchStatus CapRows(float* x, int64_t rows, int64_t cols, float factor, float cap,
                     const ExecutionContext& context);

}  // namespace lectern::kernels
