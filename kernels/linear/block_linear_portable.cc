#include <bit>

#include "kernels/linear/block_linear_isa.h"
#include "kernels/linear/block_quantize_row.h"

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
  const uint8_t* upper = block + kBlockNibbleBytes + 4 * c;
  for (int i = 0; i < kBlockInputs; ++i) {
    const int group = i / 4, j = i % 4;
    if (kBits == 8) {
      codes[i] = static_cast<int8_t>(block[group * kBlockGroupBytes + 4 * c + j]);
      continue;
    }
    const uint8_t both = block[group / 2 * kBlockGroupBytes + 4 * c + j];
    codes[i] = group % 2 == 0 ? both & 15 : both >> 4;
    if (kBits == 5) codes[i] |= (upper[j] >> group & 1) << 4;
    if (kBits == 6) {
      codes[i] |= (upper[group / 4 * kBlockGroupBytes + j] >> 2 * (group % 4) & 3) << 4;
      codes[i] -= 32;
    }
  }
}

// Scale or minimum number `place` of a channel of a block; `super` are the halves of two levels.
float ScaleAt(BlockForm form, const uint8_t* block, const uint8_t* super, int place, int channel) {
  const int at = place * kBlockChannels + channel;
  const uint8_t* scales = block + BlockCodeBytes(form.bits);
  if (!form.two_levels) return FromHalf(reinterpret_cast<const uint16_t*>(scales)[at]);
  const auto* halves = reinterpret_cast<const uint16_t*>(super);
  if (form.bits == 6) return FromHalf(halves[channel]) * static_cast<int8_t>(scales[at]);
  const float scale = FromHalf(halves[at]) * scales[at];
  return place == 0 ? scale : -scale;
}

template <int kBits>
void Multiply(const BlockProduct& p) {
  constexpr int64_t kScaleInputs = BlockForm{kBits}.scale_inputs();
  for (int c = 0; c < p.channels; ++c) {
    const int channel = p.first + c;
    for (int64_t row = 0; row < p.rows; ++row) {
      float total = 0.0f;
      const uint8_t* block = p.w;
      const uint8_t* super = block;
      for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(p.form)) {
        if (b % kSuperBlocks == 0) {
          super = block;
          block += SuperBytes(p.form);
        }
        int32_t codes[kBlockInputs];
        Unpack<kBits>(block, channel, codes);
        const int64_t at = row * p.blocks + b;
        const int8_t* x = p.x.codes + at * kBlockInputs;
        for (int part = 0; part < BlockScales(kBits); ++part) {
          int32_t sum = 0;
          for (int64_t i = part * kScaleInputs; i < (part + 1) * kScaleInputs; ++i) {
            sum += codes[i] * x[i];
          }
          const float scale = ScaleAt(p.form, block, super, part, channel) * p.x.scale[at];
          total += static_cast<float>(sum) * scale;
        }
        if (p.form.has_minimum()) {
          total += ScaleAt(p.form, block, super, 1, channel) * p.x.sum[at];
        }
      }
      float* y = p.y + row * p.y_stride + c;
      *y = p.accumulate ? *y + total : total;
    }
  }
}

void MultiplyBlocks(const BlockProduct& p) {
  switch (p.form.bits) {
    case 4:
      return Multiply<4>(p);
    case 5:
      return Multiply<5>(p);
    case 6:
      return Multiply<6>(p);
    default:
      return Multiply<8>(p);
  }
}

}  // namespace

extern const BlockLinearOps kBlockLinearPortable = {QuantizeBlocks, MultiplyBlocks};

}  // namespace lectern::kernels
