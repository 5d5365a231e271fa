// Fp32 matrix products by LibTorch, loaded when a model with fp32 numerics is.
//
// LibTorch takes half a second and about 100 MB to start, and ordinary serving uses int8 kernels.
// So one C function in a separate library, liblectern_f32.so, wraps it. The library is in the
// programs' folder, or in ../lib or ../bin.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

namespace lectern {

// y [rows, out] = x [rows, in] w^T, or += with accumulate, on the calling thread; w [out, in]. All
// row-major; x and w are dense, and rows of y are y_stride floats apart. Returns 0, or 1 with the
// reason in `error` (a C string of at most error_size bytes). Thread-safe.
using F32ProductFunction = int(const float* x, int64_t rows, int64_t in, const float* w,
                               int64_t out, float* y, int64_t y_stride, int accumulate, char* error,
                               size_t error_size);

// Loads the library, once per process. FAILED_PRECONDITION if it is not there or does not load.
absl::StatusOr<F32ProductFunction*> LoadF32Product();

}  // namespace lectern
