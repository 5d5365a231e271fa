// Quantisation of activations in blocks of 32, written once and compiled per instruction-set class:
// everything here has internal linkage. Internal to kernels/.
#pragma once

#include "kernels/linear/block_linear_isa.h"
#include "kernels/linear/int8_quantize_row.h"

namespace lectern::kernels {
namespace {

inline void QuantizeBlocks(const float* x, int64_t blocks, BlockRows row) {
  for (int64_t b = 0; b < blocks; ++b) {
    int8_t* codes = row.codes + b * kBlockInputs;
    const float scale = QuantizeSymmetric(x + b * kBlockInputs, kBlockInputs, 127.0f, 0, codes);
    int32_t sums[2] = {};
    for (int64_t i = 0; i < kBlockInputs / 2; ++i) {
      sums[0] += codes[i];
      sums[1] += codes[kBlockInputs / 2 + i];
    }
    row.scale[b] = scale;
    row.sum[b] = scale * static_cast<float>(sums[0] + sums[1]);
    row.minus_32[2 * b] = -32 * sums[0];
    row.minus_32[2 * b + 1] = -32 * sums[1];
  }
}

}  // namespace
}  // namespace lectern::kernels
