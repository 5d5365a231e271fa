// The interface between block_linear.cc and its versions for each instruction set. Internal to
// kernels/.
//
// Packed weights: groups of 64 channels; in a group, a block for each 32 inputs. Codes of 4, 5 and
// 6 bits are stored from 0 on, those of 6 bits as code + 32. Wherever four bytes a channel are
// written, channel 0 comes first, then channel 1, ... and channel 63. A block has
//   8 bits:    for each 4 inputs, four bytes a channel;
//   otherwise: for each 8 inputs, four bytes a channel; byte j holds the lower four bits of inputs
//              j (low) and 4 + j (high); then
//   5 bits:    four bytes a channel; bit g of byte j is the upper bit of input 4 g + j;
//   6 bits:    for each 16 inputs, four bytes a channel; bits 2 g and 2 g + 1 of byte j are the
//              upper bits of input 4 g + j;
// and then the 64 scales, and after them 64 minima or, with 6 bits, 64 scales of the second 16
// inputs: halves, or in two levels bytes. In two levels every eighth block begins with the 64
// halves of the scales, and 64 of the minima, for itself and the seven blocks that follow.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/linear/block_linear.h"

namespace lectern::kernels {

inline constexpr int kBlockChannels = 64;
inline constexpr int kBlockGroupBytes = 4 * kBlockChannels;  // four bytes a channel
inline constexpr int kBlockNibbleBytes = kBlockChannels * kBlockInputs / 2;

constexpr size_t BlockCodeBytes(int bits) { return kBlockChannels * kBlockInputs * bits / 8; }
// The number of scales in a block.
constexpr int BlockScales(int bits) {
  return static_cast<int>(kBlockInputs / BlockForm{bits}.scale_inputs());
}
// A block without the halves of two levels, and those.
constexpr size_t BlockBytes(BlockForm form) {
  const size_t scales = form.bits == 8 ? 1 : 2;
  return BlockCodeBytes(form.bits) +
         kBlockChannels * scales * (form.two_levels ? sizeof(uint8_t) : sizeof(uint16_t));
}
constexpr size_t SuperBytes(BlockForm form) {
  if (!form.two_levels) return 0;
  return kBlockChannels * sizeof(uint16_t) * (form.has_minimum() ? 2 : 1);
}
inline constexpr int64_t kSuperBlocks = kSuperInputs / kBlockInputs;
// `blocks` blocks of a group, a multiple of kSuperBlocks in two levels.
constexpr int64_t GroupBytes(BlockForm form, int64_t blocks) {
  return blocks * static_cast<int64_t>(BlockBytes(form)) +
         blocks / kSuperBlocks * static_cast<int64_t>(SuperBytes(form));
}

// Rows of quantised activations; `blocks` = k / 32.
struct BlockRows {
  int8_t* codes = nullptr;      // [rows, k]
  float* scale = nullptr;       // [rows, blocks]
  float* sum = nullptr;         // [rows, blocks]: scale times the sum of the codes
  int32_t* minus_32 = nullptr;  // [rows, blocks, 2]: -32 times the sum of 16 codes
};

// A few rows times one group of channels, or half of one.
struct BlockProduct {
  BlockRows x;
  int64_t blocks = 0;
  int64_t rows = 0;
  const uint8_t* w = nullptr;  // the group's packed weights
  BlockForm form;
  int first = 0;       // channel of the group: 0 or 32
  int channels = 0;    // 1..64 from there on that exist; at most 32 if first is 32
  float* y = nullptr;  // [rows, channels], row stride y_stride
  int64_t y_stride = 0;
  bool accumulate = false;
};

struct BlockLinearOps {
  // Quantises 32 * blocks floats to one row of BlockRows.
  void (*quantize_row)(const float* x, int64_t blocks, BlockRows row);
  // y = the sum over blocks, in order, of float(integer sum) * (scale * x_scale) for each of its
  // scales and, where there are minima, of minimum * x_sum; or += that.
  void (*multiply)(const BlockProduct& product);
};

extern const BlockLinearOps kBlockLinearPortable;
extern const BlockLinearOps kBlockLinearAvx2;
extern const BlockLinearOps kBlockLinearAvx512;

}  // namespace lectern::kernels
