// Computes fp32 products whose rows depend neither on each other nor on the number of threads.
//
// A BLAS library chooses the order of its sums by the shape of the product and by its threads. So
// the product is cut into pieces of a fixed number of rows and output channels, the last rows
// padded with zeros, and each piece is multiplied by one thread.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "server/model/f32_product/f32_product.h"

namespace lectern {

// y [rows, out] = x [rows, in] w^T, or += with accumulate; w [out, in]. All dense. INTERNAL if
// LibTorch fails.
absl::Status MultiplyRows(F32ProductFunction* product, int num_threads, const float* x,
                          int64_t rows, int64_t in, const float* w, int64_t out, float* y,
                          bool accumulate);

}  // namespace lectern
