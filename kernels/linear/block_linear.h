// Linear layers whose weights stay in the blocks of their file: y = x W^T. In memory a weight of an
// output channel is
//   4 bits: scale * code + minimum   for each 32 inputs, code in 0..15    (Q4_0, Q4_1, Q4_K)
//   5 bits: scale * code + minimum   for each 32 inputs, code in 0..31    (Q5_0, Q5_1, Q5_K)
//   6 bits: scale * code             for each 16 inputs, code in -32..31  (Q6_K)
//   8 bits: scale * code             for each 32 inputs, code in -128..127 (Q8_0)
// with scales and minima in half precision: 5, 6, 7 and 8.5 bits a weight. So the codes are exactly
// the file's, and a decoded token reads little more than the file holds.
//
// Activations are quantised to 8 bits with a scale for each 32 of a row, which leaves outliers to
// their own blocks: no rotation is needed. The integer sums of a block are exact. Within one ISA a
// row's result depends on that row alone, bit for bit: not on the batch, not on the number of
// threads.
//
// A row that holds a NaN or an infinity gives NaN in all its outputs; 32 activations whose largest
// magnitude is below 2^-100 count as zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/linear/linear_input.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

inline constexpr int64_t kBlockInputs = 32;
inline constexpr int64_t kBlockMaxInputs = 1 << 20;

// Inputs that share a scale.
constexpr int64_t ScaleInputs(int bits) { return bits == 6 ? 16 : kBlockInputs; }
constexpr bool HasMinimum(int bits) { return bits <= 5; }

// Packed weights of a matrix [n, k]; memory belongs to the caller.
struct BlockMatrix {
  int64_t n = 0;                    // output channels
  int64_t k = 0;                    // input width, a multiple of 32
  int bits = 4;                     // 4, 5, 6 or 8
  const uint8_t* packed = nullptr;  // PackedBlockBytes(n, k, bits), 64-byte aligned
};

size_t PackedBlockBytes(int64_t n, int64_t k, int bits);

// One output channel as a file holds it. Scales and minima are IEEE half precision.
struct BlockChannel {
  const int8_t* codes = nullptr;      // [k]
  const uint16_t* scale = nullptr;    // [k / ScaleInputs(bits)]
  const uint16_t* minimum = nullptr;  // [k / 32]; only where HasMinimum(bits)
};

// Writes channel `index` into `packed`, which must have been zero before its first channel.
// Channels may be packed from different threads if they do not share a group of 64. kBadArgument
// for a code outside its range.
LaunchStatus PackBlockChannel(const BlockChannel& channel, int64_t index, int64_t n, int64_t k,
                              int bits, uint8_t* packed);

// y [m, n] (row stride y_stride floats) = step(x) W^T, or += with accumulate, where W is the stack
// of `parts`, which have the same k: their channels lie in y one after another. The activations are
// quantised once for all parts. Scratch is allocated per thread and kept.
LaunchStatus BlockLinear(const LinearInput& input, std::span<const BlockMatrix> parts, float* y,
                         int64_t y_stride, bool accumulate, const ExecutionContext& context);

}  // namespace lectern::kernels
