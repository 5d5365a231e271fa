#include <bit>

#include "kernels/linear/q4q8_linear_isa.h"
#include "kernels/linear/q4q8_quantize_row.h"

namespace lectern::kernels {
namespace {

// Half precision to single, exactly.
float FromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7FFFu;
  if (magnitude < 0x400u) {  // subnormal: multiples of 2^-24
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  const uint32_t rebias = magnitude >= 0x7C00u ? 2 * (112u << 23) : 112u << 23;
  return std::bit_cast<float>(((magnitude << 13) + rebias) | sign);
}

// Codes of channel c of a block, in the order of the inputs.
template <int kBits>
void Unpack(const uint8_t* block, int c, int32_t* codes) {
  for (int i = 0; i < kBlockInputs; i += kBits == 4 ? 8 : 4) {
    const uint8_t* bytes = block + i / (kBits == 4 ? 8 : 4) * kBlockChannels * 4 + c * 4;
    for (int j = 0; j < 4; ++j) {
      if (kBits == 8) {
        codes[i + j] = static_cast<int8_t>(bytes[j]);
      } else {
        codes[i + j] = bytes[j] & 15;
        codes[i + 4 + j] = bytes[j] >> 4;
      }
    }
  }
}

template <int kBits>
void Multiply(const Q4Q8Product& p) {
  for (int c = 0; c < p.channels; ++c) {
    for (int64_t row = 0; row < p.rows; ++row) {
      float* y = p.y + row * p.y_stride + c;
      float total = 0.0f;
      const uint8_t* block = p.w;
      for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kBits)) {
        int32_t codes[kBlockInputs];
        Unpack<kBits>(block, p.first + c, codes);
        const int8_t* x = p.x.codes + (row * p.blocks + b) * kBlockInputs;
        int32_t sum = 0;
        for (int i = 0; i < kBlockInputs; ++i) sum += codes[i] * x[i];
        const auto* halves = reinterpret_cast<const uint16_t*>(block + BlockCodeBytes(kBits));
        const float scale = FromHalf(halves[p.first + c]) * p.x.scale[row * p.blocks + b];
        total += static_cast<float>(sum) * scale;
        if (kBits == 4) {
          total += FromHalf(halves[kBlockChannels + p.first + c]) * p.x.sum[row * p.blocks + b];
        }
      }
      *y = p.accumulate ? *y + total : total;
    }
  }
}

}  // namespace

extern const Q4Q8LinearOps kQ4Q8LinearPortable = {QuantizeBlocks, Multiply<4>, Multiply<8>};

}  // namespace lectern::kernels
