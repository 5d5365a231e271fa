// Linear layers whose weights stay in the blocks of their file: y = x W^T, where 32 inputs of an
// output channel share a scale, and with 4-bit codes a minimum:
//   w = scale * code            8 bits, code in -128..127 (GGUF's Q8_0)
//   w = scale * code + minimum  4 bits, code in 0..15 (Q4_1; Q4_0 with minimum = -8 scale)
// So the weights are exactly the file's, and a decoded token reads 5 bits a weight instead of 8.
//
// Activations are quantised to 8 bits with a scale for each 32 of a row, which leaves outliers to
// their own blocks: no rotation is needed. The sums of a block are exact integers; in AVX2 those of
// 4-bit codes fit 16 bits (8 x 2 x 15 x 127 < 2^15), which makes the product fast without VNNI.
// Within one ISA a row's result depends on that row alone, bit for bit: not on the batch, not on
// the number of threads. On AVX-512 the AVX2 code runs, with the same bits.
//
// A row that holds a NaN or an infinity gives NaN in all its outputs; 32 activations whose largest
// magnitude is below 2^-100 count as zeros.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/linear/linear_input.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

inline constexpr int64_t kBlockInputs = 32;
inline constexpr int64_t kBlockMaxInputs = 1 << 20;

// Packed weights of a matrix [n, k]; memory belongs to the caller.
struct Q4Q8Matrix {
  int64_t n = 0;                    // output channels
  int64_t k = 0;                    // input width, a multiple of 32
  int bits = 4;                     // 4 or 8
  const uint8_t* packed = nullptr;  // PackedQ4Q8Bytes(n, k, bits), 64-byte aligned
};

size_t PackedQ4Q8Bytes(int64_t n, int64_t k, int bits);

// One output channel as a file holds it. Scales and minima are IEEE half precision.
struct Q4Q8Channel {
  const int8_t* codes = nullptr;      // [k]
  const uint16_t* scale = nullptr;    // [k / 32]
  const uint16_t* minimum = nullptr;  // [k / 32]; 4 bits only
};

// Writes channel `index` into `packed`, which must have been zero before its first channel.
// Channels may be packed from different threads if they do not share a group of 64. kBadArgument
// for a 4-bit code outside 0..15.
LaunchStatus PackQ4Q8Channel(const Q4Q8Channel& channel, int64_t index, int64_t n, int64_t k,
                             int bits, uint8_t* packed);

// y [m, n] (row stride y_stride floats) = step(x) W^T, or += with accumulate. Scratch is allocated
// per thread and kept.
LaunchStatus Q4Q8Linear(const LinearInput& input, const Q4Q8Matrix& w, float* y, int64_t y_stride,
                        bool accumulate, const ExecutionContext& context);

}  // namespace lectern::kernels
