// Linear layers with int8 weights: y = x W^T with one scale per output channel (W) and one per row
// of activations (x), accumulated exactly in int32. One packing serves large batches (prefill)
// and single rows (decode, at memory bandwidth).
//
// Activations are quantised to 8 bits on AVX-512 VNNI and to 7 bits where the product would
// saturate (vpmaddubsw on AVX2); the portable version uses 8 bits. Within one ISA a row's result
// depends on that row alone, bit for bit: not on the batch, not on the number of threads.
//
// A row that holds a NaN or an infinity gives NaN in all its outputs (a row of weights, in its
// channel); a row whose largest magnitude is below 2^-100 counts as zeros. k is at most 2^17
// (kBadShape beyond), so that the sums are exact.
//
// Accuracy needs inputs without outlier channels: the caller rotates (server/model, after QuaRot,
// Ashkboos et al. 2024, arXiv 2404.00456).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/linear/linear_input.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

// Packed weights of a matrix [n, k]; memory belongs to the caller.
struct Int8Matrix {
  int64_t n = 0;                     // output channels
  int64_t k = 0;                     // input width
  const int8_t* packed = nullptr;    // PackedInt8Bytes(n, k), 64-byte aligned
  const float* scale = nullptr;      // [n padded to 64]
  const int32_t* row_sum = nullptr;  // [n padded to 64]: sum of the int8 weights of each channel
};

// Sizes of the three arrays. n and k are padded inside; any n, k >= 1 is allowed.
size_t PackedInt8Bytes(int64_t n, int64_t k);
int64_t PaddedChannels(int64_t n);

// Quantises rows [first_row, first_row + rows) of a matrix W [n, k] (w points at first_row, row
// stride k floats) symmetrically and writes them into packed / scale / row_sum of the whole matrix.
// A channel's largest magnitude becomes 127, or a smaller integer, so that of the inputs 0, 1, 4, 5
// and of 2, 3, 6, 7 of any eight the positive integers come to 258 at most, and the negative ones
// too: then AVX2 may add their products in 16 bits. Different row ranges may be packed from
// different threads if first_row is a multiple of 64.
LaunchStatus PackInt8Rows(const float* w, int64_t first_row, int64_t rows, int64_t n, int64_t k,
                          int8_t* packed, float* scale, int32_t* row_sum);

// y [m, n] (row stride y_stride floats) = step(x) W^T, or += with accumulate. Activations are
// quantised inside. Scratch is allocated per thread and kept.
LaunchStatus Int8Linear(const LinearInput& input, const Int8Matrix& w, float* y, int64_t y_stride,
                        bool accumulate, const ExecutionContext& context);

// Multiplies x [m, k] without a step before the product.
inline LaunchStatus Int8Linear(const float* x, int64_t m, int64_t x_stride, const Int8Matrix& w,
                               float* y, int64_t y_stride, bool accumulate,
                               const ExecutionContext& context) {
  return Int8Linear(LinearInput{.x = x, .m = m, .stride = x_stride}, w, y, y_stride, accumulate,
                    context);
}

}  // namespace lectern::kernels
