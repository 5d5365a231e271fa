// The interface between int8_linear.cc and its versions for each instruction set. Internal to
// kernels/.
//
// Packed weights: blocks of 64 channels; in a block, for each group of four inputs, the four bytes
// of channel 0, of channel 1, ... of channel 63 (256 bytes, what vpdpbusd wants). Inputs are padded
// to a multiple of 4 and channels to a multiple of 64 with zeros.
#pragma once

#include <cstdint>

#include "kernels/runtime/execution_context.h"

namespace lectern::kernels {

inline constexpr int kInt8BlockChannels = 64;
inline constexpr int kInt8Group = 4;                // inputs of one dot-product step
inline constexpr int64_t kInt8BlockRows = 24;       // the maximum of one call of `block`
inline constexpr int64_t kInt8MaxInputs = 1 << 17;  // 2^17 * 127 * 127 < 2^31: int32 stays exact

constexpr int64_t Int8PaddedInputs(int64_t k) {
  return (k + kInt8Group - 1) / kInt8Group * kInt8Group;
}

// At most kInt8BlockRows rows of quantised activations times one block of channels.
struct Int8Block {
  const uint8_t* x = nullptr;  // [rows, groups * 4] as quantize_row wrote them
  int64_t groups = 0;
  const float* x_scale = nullptr;  // [rows]
  int64_t rows = 0;
  const int8_t* w = nullptr;         // one block of packed weights, or its second half (w + 128)
  const float* w_scale = nullptr;    // [channels, padded to 32]
  const int32_t* row_sum = nullptr;  // [channels, padded to 32]
  float* y = nullptr;                // [rows, channels], row stride y_stride
  int64_t y_stride = 0;
  int channels = 0;  // 1..64 that exist in the block; at most 32 in a second half
  bool accumulate = false;
};

struct Int8LinearOps {
  // Quantises k floats to q [padded k] and returns their scale. Integers are round_to_even(x * (L /
  // max|x|)), L = 127 or 63; q holds them with the offset of the class (0, 64 or 128). A row that
  // is all zeros (or below 2^-100) has scale 0; a row that holds an infinity or a NaN has scale
  // NaN.
  float (*quantize_row)(const float* x, int64_t k, uint8_t* q);
  // A channel of weights: integers as above without an offset, and their sum. L is 127, or a
  // smaller integer where a quad of weights needs it (kInt8QuadSum).
  float (*quantize_weights)(const float* w, int64_t k, int8_t* q, int32_t* sum);
  // y = float(sum of integer products) * (x_scale * w_scale), or += that.
  void (*block)(const Int8Block& block);
};

// The operations of `isa`, which must not exceed BestIsa().
const Int8LinearOps& Int8LinearOpsOf(Isa isa);

extern const Int8LinearOps kInt8LinearPortable;
extern const Int8LinearOps kInt8LinearAvx2;
extern const Int8LinearOps kInt8LinearAvx512;

}  // namespace lectern::kernels
