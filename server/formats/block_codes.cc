// Rows of a tensor as codes with scales, in the forms of the block kernels.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/block_layouts.h"
#include "server/formats/file_error.h"
#include "server/formats/tensor_source.h"

namespace lectern {
namespace {

constexpr int64_t kValues = 32;  // of a block of the kernels

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

// A block of a file: codes, and the scales and minima of its parts: value = scale * code + minimum.
// In two levels one scale and one minimum, and value = scale * sub_scale * code - minimum *
// sub_minimum.
struct FileBlock {
  int8_t codes[256];
  float scale[8];
  float minimum[8];
  uint8_t sub_scale[16];
  uint8_t sub_minimum[8];
};

// Reads a block of a type whose codes are kept.
void ReadBlock(TensorType type, const uint8_t* bytes, FileBlock& block) {
  auto* const signed_scale = reinterpret_cast<int8_t*>(block.sub_scale);
  switch (type) {
    case TensorType::kQ4_0:
      block.scale[0] = LoadHalf(bytes);
      block.minimum[0] = -8 * block.scale[0];
      return NibbleCodes(bytes + 2, block.codes);
    case TensorType::kQ4_1:
      block.scale[0] = LoadHalf(bytes);
      block.minimum[0] = LoadHalf(bytes + 2);
      return NibbleCodes(bytes + 4, block.codes);
    case TensorType::kQ5_0:
      block.scale[0] = LoadHalf(bytes);
      block.minimum[0] = -16 * block.scale[0];
      return FiveBitCodes(bytes + 2, bytes + 6, block.codes);
    case TensorType::kQ5_1:
      block.scale[0] = LoadHalf(bytes);
      block.minimum[0] = LoadHalf(bytes + 2);
      return FiveBitCodes(bytes + 4, bytes + 8, block.codes);
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      block.scale[0] = ScaleOfK(bytes);
      block.minimum[0] = MinimumOfK(bytes);
      return (type == TensorType::kQ4_K ? CodesOfQ4_K : CodesOfQ5_K)(
          bytes, block.codes, block.sub_scale, block.sub_minimum);
    case TensorType::kQ3_K:
      block.scale[0] = ScaleOfQ3_K(bytes);
      return CodesOfQ3_K(bytes, block.codes, signed_scale);
    case TensorType::kQ6_K:
      block.scale[0] = ScaleOfQ6_K(bytes);
      return CodesOfQ6_K(bytes, block.codes, signed_scale);
    case TensorType::kIQ4_NL:
      return CodesOfIQ4_NL(bytes, block.codes, block.scale);
    case TensorType::kIQ4_XS:
      return CodesOfIQ4_XS(bytes, block.codes, block.scale);
    default:  // kQ8_0
      block.scale[0] = LoadHalf(bytes);
      std::memcpy(block.codes, bytes + 2, kValues);
      return;
  }
}

// Values that share a scale.
int64_t ScaleValues(BlockForm form) { return form.bits == 6 ? 16 : kValues; }

// Rounds to half precision; false beyond it.
bool RoundHalves(const float* values, int64_t count, uint16_t* halves) {
  bool fit = true;
  for (int64_t i = 0; i < count; ++i) {
    halves[i] = FloatToHalf(values[i]);
    fit &= std::isfinite(HalfToFloat(halves[i]));
  }
  return fit;
}

// The codes of the file. `out` has its sizes.
absl::Status KeepCodes(const TensorView& tensor, const uint8_t* bytes, BlockCodes& out) {
  const BlockForm form = BlockFormOf(tensor.type);
  const int64_t values = BlockValues(tensor.type);
  const int64_t parts = values / ScaleValues(form);
  const int64_t scales = form.two_levels ? 1 : parts;
  const int64_t minima = out.minimum.empty() ? 0 : scales;
  FileBlock block;
  for (int64_t b = 0; b < tensor.cols() / values; ++b, bytes += BlockBytes(tensor.type)) {
    ReadBlock(tensor.type, bytes, block);
    std::copy_n(block.codes, values, out.codes.data() + b * values);
    if (!RoundHalves(block.scale, scales, out.scale.data() + b * scales) ||
        !RoundHalves(block.minimum, minima, out.minimum.data() + b * minima)) {
      return Refuse(tensor, "holds a scale beyond half precision");
    }
    if (!out.sub_scale.empty()) std::copy_n(block.sub_scale, parts, &out.sub_scale[b * parts]);
    if (!out.sub_minimum.empty())
      std::copy_n(block.sub_minimum, parts, &out.sub_minimum[b * parts]);
  }
  return absl::OkStatus();
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

// The nearest codes of eight bits to the values of a row. `out` has its sizes.
absl::Status RoundToEightBits(const TensorView& tensor, int64_t row, BlockCodes& out) {
  std::vector<float> values(out.codes.size());
  LECTERN_RETURN_IF_ERROR(Dequantize(tensor, row, 1, values.data()));
  for (size_t g = 0; g < out.scale.size(); ++g) {
    const float* group = values.data() + kValues * g;
    out.scale[g] = ScaleOf(group);
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

BlockForm BlockFormOf(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
    case TensorType::kQ4_1:
      return {.bits = 4, .rounds = false};
    case TensorType::kQ4_K:
      return {.bits = 4, .two_levels = true, .rounds = false};
    case TensorType::kQ5_0:
    case TensorType::kQ5_1:
      return {.bits = 5, .rounds = false};
    case TensorType::kQ5_K:
      return {.bits = 5, .two_levels = true, .rounds = false};
    case TensorType::kQ3_K:  // three bits, and like Q6_K a scale for each 16 values
    case TensorType::kQ6_K:
      return {.bits = 6, .two_levels = true, .rounds = false};
    case TensorType::kQ8_0:
    case TensorType::kIQ4_NL:  // four bits that stand for numbers of eight
    case TensorType::kIQ4_XS:
      return {.bits = 8, .rounds = false};
    case TensorType::kQ2_K:
    case TensorType::kMXFP4:
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      break;
  }
  return {.bits = 8, .rounds = true};
}

absl::Status ReadBlockCodes(const TensorView& tensor, int64_t row, BlockCodes& out) {
  const int64_t cols = tensor.cols();
  if (cols % kValues != 0) {
    return Refuse(tensor, absl::StrCat("has rows of ", cols, " values, no multiple of 32"));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::string_view bytes, RowsOf(tensor, row, 1));
  const BlockForm form = BlockFormOf(tensor.type);
  const bool has_minimum = form.bits <= 5;
  const int64_t shares = form.two_levels ? 256 : kValues;  // values that share a half
  out.codes.resize(cols);
  out.scale.resize(cols / shares);
  out.minimum.resize(has_minimum ? cols / shares : 0);
  out.sub_scale.resize(form.two_levels ? cols / ScaleValues(form) : 0);
  out.sub_minimum.resize(form.two_levels && has_minimum ? cols / kValues : 0);
  if (form.rounds) return RoundToEightBits(tensor, row, out);
  return KeepCodes(tensor, reinterpret_cast<const uint8_t*>(bytes.data()), out);
}

}  // namespace lectern
