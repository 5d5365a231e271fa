// Rows of a tensor as codes with a scale for each 32 values, the form of the block kernels.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/block_layouts.h"
#include "server/formats/file_error.h"
#include "server/formats/tensor_source.h"

namespace lectern {
namespace {

constexpr int64_t kValues = 32;  // of a scale

absl::Status Refuse(const TensorView& tensor, std::string_view why) {
  return InvalidFile({.kind = "tensor", .name = std::string(tensor.name)}, why);
}

// Rounds to half precision, ties to even. Infinite where half precision ends.
uint16_t FloatToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::abs(value);
  if (!(magnitude < 65520.0f)) return sign | 0x7c00u;
  if (magnitude < 0x1p-14f) {
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
  }
  const uint32_t shifted = (bits & 0x7fffffffu) - (112u << 23);
  return sign | static_cast<uint16_t>((shifted + 0xfffu + ((shifted >> 13) & 1)) >> 13);
}

// The rows of types whose codes have four bits and whose values are scale * code + minimum.
class FourBits {
 public:
  FourBits(const TensorView& tensor, BlockCodes& out) : tensor_(tensor), out_(out) {}

  absl::Status Read(const uint8_t* block) {
    const int64_t groups = tensor_.cols() / kValues;
    for (int64_t g = 0; g < groups;) {
      switch (tensor_.type) {
        case TensorType::kQ4_0:
          LECTERN_RETURN_IF_ERROR(Set(g, LoadHalf(block), -8 * LoadHalf(block)));
          Unpack(block + 2, g);
          g += 1;
          break;
        case TensorType::kQ4_1:
          LECTERN_RETURN_IF_ERROR(Set(g, LoadHalf(block), LoadHalf(block + 2)));
          Unpack(block + 4, g);
          g += 1;
          break;
        default:  // kQ4_K
          LECTERN_RETURN_IF_ERROR(ReadK(block, g));
          g += 8;
          break;
      }
      block += BlockBytes(tensor_.type);
    }
    return absl::OkStatus();
  }

 private:
  // Byte j holds code j (low) and j + 16 (high).
  void Unpack(const uint8_t* bytes, int64_t group) {
    int8_t* codes = out_.codes.data() + kValues * group;
    for (int i = 0; i < 16; ++i) {
      codes[i] = static_cast<int8_t>(bytes[i] & 15);
      codes[i + 16] = static_cast<int8_t>(bytes[i] >> 4);
    }
  }

  absl::Status ReadK(const uint8_t* block, int64_t group) {
    float scale[8], minimum[8];
    SubScalesOf(block, scale, minimum);
    const uint8_t* bytes = block + 16;
    int8_t* codes = out_.codes.data() + kValues * group;
    for (int pair = 0; pair < 4; ++pair, bytes += 32, codes += 64) {
      for (int i = 0; i < 32; ++i) {
        codes[i] = static_cast<int8_t>(bytes[i] & 15);
        codes[i + 32] = static_cast<int8_t>(bytes[i] >> 4);
      }
    }
    for (int s = 0; s < 8; ++s) LECTERN_RETURN_IF_ERROR(Set(group + s, scale[s], -minimum[s]));
    return absl::OkStatus();
  }

  absl::Status Set(int64_t group, float scale, float minimum) {
    out_.scale[group] = FloatToHalf(scale);
    out_.minimum[group] = FloatToHalf(minimum);
    const bool fits = std::isfinite(HalfToFloat(out_.scale[group])) &&
                      std::isfinite(HalfToFloat(out_.minimum[group]));
    return fits ? absl::OkStatus() : Refuse(tensor_, "holds a scale beyond half precision");
  }

  const TensorView& tensor_;
  BlockCodes& out_;
};

// True if the values of a block of 32 are small multiples of the half-precision number with which
// the block begins.
bool HasCodesOfScale(TensorType type) {
  return type == TensorType::kQ4_0 || type == TensorType::kQ5_0 || type == TensorType::kIQ4_NL;
}

// The scale with which 127 steps reach the largest of 32 values. Below the normal numbers of half
// precision a scale has few digits; rounding it up keeps the codes in range.
uint16_t ScaleOf(const float* values) {
  float largest = 0;
  for (int i = 0; i < kValues; ++i) largest = std::max(largest, std::abs(values[i]));
  uint16_t scale = FloatToHalf(largest / 127);
  if (HalfToFloat(scale) * 127.5f < largest) ++scale;
  return scale;
}

// The nearest codes of eight bits to the values of a row. Codes of types that have one scale for
// 32 values stay as they are.
absl::Status RoundToEightBits(const TensorView& tensor, const uint8_t* block,
                              const std::vector<float>& values, BlockCodes& out) {
  for (size_t g = 0; g < out.scale.size(); ++g) {
    const float* group = values.data() + kValues * g;
    out.scale[g] =
        HasCodesOfScale(tensor.type) ? Load16(block + g * BlockBytes(tensor.type)) : ScaleOf(group);
    const float scale = HalfToFloat(out.scale[g]);
    if (!std::isfinite(scale)) return Refuse(tensor, "holds a value beyond half precision");
    for (int i = 0; i < kValues; ++i) {
      if (!std::isfinite(group[i])) return Refuse(tensor, "holds a value that is not finite");
      const float code = scale != 0 ? std::nearbyint(group[i] / scale) : 0;
      out.codes[kValues * g + i] = static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f));
    }
  }
  return absl::OkStatus();
}

}  // namespace

int BlockCodeBits(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
      return 4;
    default:
      return 8;
  }
}

bool KeepsBlockCodes(TensorType type) {
  return BlockCodeBits(type) == 4 || type == TensorType::kQ8_0 || HasCodesOfScale(type);
}

absl::Status ReadBlockCodes(const TensorView& tensor, int64_t row, int bits, BlockCodes& out) {
  const int64_t cols = tensor.cols();
  if (cols % kValues != 0) {
    return Refuse(tensor, absl::StrCat("has rows of ", cols, " values, no multiple of 32"));
  }
  std::vector<float> values(cols);
  LECTERN_RETURN_IF_ERROR(Dequantize(tensor, row, 1, values.data()));  // checks row and size
  out.codes.resize(cols);
  out.scale.resize(cols / kValues);
  out.minimum.resize(bits == 4 ? cols / kValues : 0);
  const auto row_bytes = static_cast<int64_t>(tensor.bytes.size()) / tensor.rows();
  const auto* bytes = reinterpret_cast<const uint8_t*>(tensor.bytes.data()) + row * row_bytes;
  if (bits == 4) {
    if (BlockCodeBits(tensor.type) != 4) return Refuse(tensor, "has codes of more than four bits");
    return FourBits(tensor, out).Read(bytes);
  }
  if (tensor.type != TensorType::kQ8_0) return RoundToEightBits(tensor, bytes, values, out);
  for (size_t g = 0; g < out.scale.size(); ++g, bytes += BlockBytes(tensor.type)) {
    out.scale[g] = Load16(bytes);
    std::memcpy(out.codes.data() + kValues * g, bytes + 2, kValues);
  }
  return absl::OkStatus();
}

}  // namespace lectern
