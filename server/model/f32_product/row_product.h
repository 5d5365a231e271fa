// Computes fp32 products whose rows do not depend on each other.
//
// A BLAS library chooses the order of its sums by the shape of the product. So that a row's result
// is the same alone and in a batch, every product has the same small number of rows; the last one
// is padded with zeros.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "server/model/f32_product/f32_product.h"

namespace lectern {

// y [rows, out] = x [rows, in] w^T, or += with accumulate; w [out, in]. All dense.
absl::Status MultiplyRows(F32ProductFunction* product, int threads, const float* x, int64_t rows,
                          int64_t in, const float* w, int64_t out, float* y, bool accumulate);

}  // namespace lectern
