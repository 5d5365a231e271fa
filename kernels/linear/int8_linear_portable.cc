#include "kernels/linear/int8_linear_isa.h"
#include "kernels/linear/int8_quantize_row.h"

namespace lectern::kernels {
namespace {

float QuantizeRow(const float* x, int64_t k, uint8_t* q) {
  return QuantizeActivations(x, k, 127.0f, 0, q);
}

void Block(const Int8Block& block) {
  const int64_t width = block.groups * kInt8Group;
  for (int64_t row = 0; row < block.rows; ++row) {
    const uint8_t* x = block.x + row * width;
    int32_t sum[kInt8BlockChannels] = {};
    const int8_t* w = block.w;
    for (int64_t i = 0; i < width; i += kInt8Group, w += kInt8Group * kInt8BlockChannels) {
      const int32_t x0 = static_cast<int8_t>(x[i]), x1 = static_cast<int8_t>(x[i + 1]);
      const int32_t x2 = static_cast<int8_t>(x[i + 2]), x3 = static_cast<int8_t>(x[i + 3]);
      for (int c = 0; c < block.channels; ++c) {
        sum[c] += x0 * w[4 * c] + x1 * w[4 * c + 1] + x2 * w[4 * c + 2] + x3 * w[4 * c + 3];
      }
    }
    float* y = block.y + row * block.y_stride;
    for (int c = 0; c < block.channels; ++c) {
      const float value = static_cast<float>(sum[c]) * (block.x_scale[row] * block.w_scale[c]);
      y[c] = block.accumulate ? y[c] + value : value;
    }
  }
}

}  // namespace

extern const Int8LinearOps kInt8LinearPortable = {QuantizeRow, QuantizeWeights, Block};

}  // namespace lectern::kernels
