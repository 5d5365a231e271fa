// The interface between q4q8_linear.cc and its versions for each instruction set. Internal to
// kernels/.
//
// Packed weights: groups of 64 channels; in a group, for each 32 inputs, a block of
//   4 bits: for each 8 inputs, of channel 0, of channel 1, ... of channel 63, four bytes; byte j
//           holds the codes of inputs j (low) and 4 + j (high);
//   8 bits: for each 4 inputs, of channel 0, ... of channel 63, four bytes;
// then the 64 scales and, with 4 bits, the 64 minima, in half precision.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/linear/q4q8_linear.h"

namespace lectern::kernels {

inline constexpr int kBlockChannels = 64;

constexpr size_t BlockCodeBytes(int bits) { return kBlockChannels * kBlockInputs * bits / 8; }
constexpr size_t BlockBytes(int bits) {
  return BlockCodeBytes(bits) + kBlockChannels * sizeof(uint16_t) * (bits == 4 ? 2 : 1);
}

// Rows of quantised activations; `blocks` = k / 32.
struct Q4Q8Rows {
  int8_t* codes = nullptr;  // [rows, k]
  float* scale = nullptr;   // [rows, blocks]
  float* sum = nullptr;     // [rows, blocks]: scale times the sum of the codes
};

// A few rows times one group of channels, or half of one.
struct Q4Q8Product {
  Q4Q8Rows x;
  int64_t blocks = 0;
  int64_t rows = 0;
  const uint8_t* w = nullptr;  // the group's packed weights
  int first = 0;               // channel of the group: 0 or 32
  int channels = 0;            // 1..64 from there on that exist; at most 32 if first is 32
  float* y = nullptr;          // [rows, channels], row stride y_stride
  int64_t y_stride = 0;
  bool accumulate = false;
};

struct Q4Q8LinearOps {
  // Quantises 32 * blocks floats to one row of Q4Q8Rows.
  void (*quantize_row)(const float* x, int64_t blocks, Q4Q8Rows row);
  // y = the sum over blocks, in order, of float(integer sum) * (scale * x_scale) and, with 4 bits,
  // of minimum * x_sum; or += that.
  void (*multiply4)(const Q4Q8Product& product);
  void (*multiply8)(const Q4Q8Product& product);
};

extern const Q4Q8LinearOps kQ4Q8LinearPortable;
extern const Q4Q8LinearOps kQ4Q8LinearAvx2;

}  // namespace lectern::kernels
