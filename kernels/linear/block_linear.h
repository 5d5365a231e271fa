// Linear layers whose weights stay in the blocks of their file: y = x W^T. In memory a weight of an
// output channel is
//   4 bits: scale * code + minimum   for each 32 inputs, code in 0..15     (Q4_0, Q4_1, Q4_K)
//   5 bits: scale * code + minimum   for each 32 inputs, code in 0..31     (Q5_0, Q5_1, Q5_K)
//   6 bits: scale * code             for each 16 inputs, code in -32..31   (Q6_K)
//   8 bits: scale * code             for each 32 inputs, code in -128..127 (Q8_0)
// Scales and minima are in half precision, or in two levels as in the K types: a byte, times a
// number in half precision that 256 inputs share. That makes 5, 6 and 8.5 bits a weight with 4, 5
// and 8 bits, and 4.63, 5.63 and 6.56 with 4, 5 and 6 bits in two levels: the file's numbers, and
// about its size.
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

inline constexpr int64_t kSuperInputs = 256;  // that share a number of the upper level

// The form of a matrix. 6 bits are in two levels, 8 bits are not.
struct BlockForm {
  int bits = 4;  // 4, 5, 6 or 8
  bool two_levels = false;
  // Inputs that share a scale.
  constexpr int64_t scale_inputs() const { return bits == 6 ? 16 : kBlockInputs; }
  constexpr bool has_minimum() const { return bits <= 5; }
  friend bool operator==(const BlockForm&, const BlockForm&) = default;
};

// Packed weights of a matrix [n, k]; memory belongs to the caller.
struct BlockMatrix {
  int64_t n = 0;  // output channels
  int64_t k = 0;  // input width, a multiple of 32, in two levels of 256
  BlockForm form;
  const uint8_t* packed = nullptr;  // PackedBlockBytes(n, k, form), 64-byte aligned
};

size_t PackedBlockBytes(int64_t n, int64_t k, BlockForm form);

// One output channel as a file holds it. Halves are IEEE half precision.
struct BlockChannel {
  const int8_t* codes = nullptr;  // [k]
  // [k / scale_inputs] and [k / 32]; in two levels, [k / 256] both. A minimum where the form has
  // it.
  const uint16_t* scale = nullptr;
  const uint16_t* minimum = nullptr;
  // In two levels: scale = its half times this [k / scale_inputs], a signed byte with 6 bits; and
  // minimum = minus its half times this [k / 32].
  const uint8_t* sub_scale = nullptr;
  const uint8_t* sub_minimum = nullptr;
};

// Writes channel `index` into `packed`, which must have been zero before its first channel.
// Channels may be packed from different threads if they do not share a group of 64. kBadArgument
// for a code outside its range.
LaunchStatus PackBlockChannel(const BlockChannel& channel, int64_t index, int64_t n, int64_t k,
                              BlockForm form, uint8_t* packed);

// y [m, n] (row stride y_stride floats) = step(x) W^T, or += with accumulate, where W is the stack
// of `parts`, which have the same k: their channels lie in y one after another. The activations are
// quantised once for all parts. Scratch is allocated per thread and kept.
LaunchStatus BlockLinear(const LinearInput& input, std::span<const BlockMatrix> parts, float* y,
                         int64_t y_stride, bool accumulate, const ExecutionContext& context);

}  // namespace lectern::kernels
