// The CPU's two parts of an int8 product whose integer sums another processor computes
// (kernels/cuda).
//
// QuantizeInt8Rows, the exact sums of q W^T, and FinishInt8Sums together give the bits of
// Int8Linear on the same instruction set. Only integers are computed elsewhere and all rounding
// happens here, so that results do not depend on the processor.
#pragma once

#include <cstdint>

#include "kernels/linear/int8_linear.h"
#include "kernels/linear/linear_input.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// q [m, k padded to a multiple of 4] = the integers that Int8Linear multiplies, -127 to 127; those
// of the padding are unspecified, as the weights there are zeros. x_scale [m] = their scales.
LaunchStatus QuantizeInt8Rows(const LinearInput& input, int64_t k, int8_t* q, float* x_scale,
                              const ExecutionContext& context);

// y [m, w.n] (row stride y_stride) = float(sums) * (x_scale * w.scale), or += with accumulate.
// sums [m, PaddedChannels(w.n)].
LaunchStatus FinishInt8Sums(const int32_t* sums, const float* x_scale, int64_t m,
                            const Int8Matrix& w, float* y, int64_t y_stride, bool accumulate,
                            const ExecutionContext& context);

}  // namespace lectern::kernels
