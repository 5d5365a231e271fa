// Quantisation of activations in blocks of 32, written once and compiled per instruction-set class:
// everything here has internal linkage. Internal to kernels/.
#pragma once

#include "kernels/linear/int8_quantize_row.h"
#include "kernels/linear/q4q8_linear_isa.h"

namespace lectern::kernels {
namespace {

inline void QuantizeBlocks(const float* x, int64_t blocks, Q4Q8Rows row) {
  for (int64_t b = 0; b < blocks; ++b) {
    int8_t* codes = row.codes + b * kBlockInputs;
    const float scale = QuantizeSymmetric(x + b * kBlockInputs, kBlockInputs, 127.0f, 0, codes);
    int32_t sum = 0;
    for (int64_t i = 0; i < kBlockInputs; ++i) sum += codes[i];
    row.scale[b] = scale;
    row.sum[b] = scale * static_cast<float>(sum);
  }
}

}  // namespace
}  // namespace lectern::kernels
