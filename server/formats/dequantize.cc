// Block layouts: GGUF specification and the `gguf` package's documentation of its types. All
// products below are exact in fp32 (an fp16 scale has 11 bits, a code at most 8, a sub-scale 6 to
// 8), so each value is rounded at most once, whatever order or fusion the compiler chooses.
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/file_error.h"
#include "server/formats/tensor_source.h"

namespace lectern {
namespace {

static_assert(std::endian::native == std::endian::little, "model files are read in place");

// Branch-free, so that loops over it vectorise; independent of the denormals-are-zero mode.
float HalfToFloat(uint16_t half) {
  constexpr uint32_t kExponentShift = 112u << 23;  // the biases differ by 127 - 15
  const uint32_t magnitude = half & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + kExponentShift;
  const uint32_t special = normal + kExponentShift;  // infinity and NaN: exponent 31 becomes 255
  // A subnormal is mantissa * 2^-24, and 2^-24 is the last place of 0.5.
  const auto subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(0x3f000000u + magnitude) - 0.5f);
  uint32_t bits = magnitude >= 0x7c00u ? special : normal;
  bits = magnitude < 0x0400u ? subnormal : bits;
  return std::bit_cast<float>(bits | static_cast<uint32_t>(half & 0x8000u) << 16);
}

uint16_t Load16(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* bytes) { return HalfToFloat(Load16(bytes)); }

void F16(const uint8_t* in, int64_t values, float* out) {
  for (int64_t i = 0; i < values; ++i) out[i] = LoadHalf(in + 2 * i);
}

void BF16(const uint8_t* in, int64_t values, float* out) {
  for (int64_t i = 0; i < values; ++i) {
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(Load16(in + 2 * i)) << 16);
  }
}

// d, 32 signed codes: d * q.
void Q8_0(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block);
  const auto* codes = reinterpret_cast<const int8_t*>(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = d * codes[i];
}

// d, 16 bytes; byte j holds code j (low) and j + 16 (high): d * (q - 8).
void Q4_0(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block);
  const uint8_t* codes = block + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * ((codes[i] & 15) - 8);
    out[i + 16] = d * ((codes[i] >> 4) - 8);
  }
}

// d, m, 16 bytes as above: d * q + m.
void Q4_1(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block);
  const float m = LoadHalf(block + 2);
  const uint8_t* codes = block + 4;
  for (int i = 0; i < 16; ++i) {
    out[i] = d * (codes[i] & 15) + m;
    out[i + 16] = d * (codes[i] >> 4) + m;
  }
}

// d, dmin, 12 bytes with eight 6-bit scales and eight 6-bit minima, 128 bytes of codes: sub-block s
// of 32 values is d * scale[s] * q - dmin * min[s]. Bytes 0..3 hold scales 0..3 in the low six
// bits, bytes 4..7 minima 0..3; bytes 8..11 hold the low nibbles of scales 4..7 (low) and
// minima 4..7 (high), whose upper two bits are the top bits of bytes 0..3 and 4..7. Codes: 32 bytes
// serve two sub-blocks, low nibbles the even one.
void Q4_K(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block);
  const float dmin = LoadHalf(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* codes = block + 16;
  float scale[8], minimum[8];
  for (int s = 0; s < 4; ++s) {
    scale[s] = d * (packed[s] & 63);
    minimum[s] = dmin * (packed[s + 4] & 63);
    scale[s + 4] = d * ((packed[s + 8] & 15) | (packed[s] >> 6) << 4);
    minimum[s + 4] = dmin * ((packed[s + 8] >> 4) | (packed[s + 4] >> 6) << 4);
  }
  for (int pair = 0; pair < 4; ++pair, codes += 32, out += 64) {
    const float scale_low = scale[2 * pair], min_low = minimum[2 * pair];
    const float scale_high = scale[2 * pair + 1], min_high = minimum[2 * pair + 1];
    for (int i = 0; i < 32; ++i) {
      out[i] = scale_low * (codes[i] & 15) - min_low;
      out[i + 32] = scale_high * (codes[i] >> 4) - min_high;
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of upper two bits, sixteen signed scales, d: groups of 16
// values share d * scale, codes are q - 32. Each half of 128 values takes 64 low and 32 high bytes:
// value 32 g + i has its nibble in byte i + 32 (g % 2), low for g < 2, and its upper bits at 2 g of
// byte i.
void Q6_K(const uint8_t* block, float* __restrict out) {
  const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
  const float d = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half, out += 128) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    for (int g = 0; g < 4; ++g) {
      const uint8_t* nibbles = low + 32 * (g % 2);
      const int shift = g < 2 ? 0 : 4;
      for (int part = 0; part < 2; ++part) {
        const float scale = d * scales[8 * half + 2 * g + part];
        for (int i = 16 * part; i < 16 * part + 16; ++i) {
          const int code = ((nibbles[i] >> shift) & 15) | ((high[i] >> (2 * g)) & 3) << 4;
          out[32 * g + i] = scale * (code - 32);
        }
      }
    }
  }
}

template <void (*kBlock)(const uint8_t*, float*)>
void Blocks(const uint8_t* in, int64_t values, TensorType type, float* out) {
  const int64_t block_values = BlockValues(type);
  const int64_t block_bytes = BlockBytes(type);
  for (int64_t i = 0; i < values; i += block_values, in += block_bytes) kBlock(in, out + i);
}

void DequantizeValues(const uint8_t* in, int64_t values, TensorType type, float* out) {
  switch (type) {
    case TensorType::kF32:
      std::memcpy(out, in, values * sizeof(float));
      return;
    case TensorType::kF16:
      return F16(in, values, out);
    case TensorType::kBF16:
      return BF16(in, values, out);
    case TensorType::kQ8_0:
      return Blocks<Q8_0>(in, values, type, out);
    case TensorType::kQ4_0:
      return Blocks<Q4_0>(in, values, type, out);
    case TensorType::kQ4_1:
      return Blocks<Q4_1>(in, values, type, out);
    case TensorType::kQ4_K:
      return Blocks<Q4_K>(in, values, type, out);
    case TensorType::kQ6_K:
      return Blocks<Q6_K>(in, values, type, out);
  }
}

absl::Status Refuse(const TensorView& tensor, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("tensor '", Printable(tensor.name),
                                                 "': ", absl::string_view(why.data(), why.size())));
}

// The bytes of a row; INVALID_ARGUMENT unless the tensor has these rows.
absl::StatusOr<int64_t> RowBytes(const TensorView& tensor, int64_t first_row, int64_t rows) {
  if (tensor.shape.size() > 2) return Refuse(tensor, "has more than two dimensions");
  const int64_t cols = tensor.cols();
  if (first_row < 0 || rows < 0 || rows > tensor.rows() || first_row > tensor.rows() - rows) {
    return Refuse(tensor, absl::StrCat("rows ", first_row, " + ", rows, " of ", tensor.rows()));
  }
  const int64_t block_values = BlockValues(tensor.type);
  if (cols % block_values != 0) {
    return Refuse(tensor,
                  absl::StrCat("rows of ", cols, " values are no whole blocks of ", block_values));
  }
  const int64_t row_bytes = cols / block_values * BlockBytes(tensor.type);
  if (tensor.bytes.size() != static_cast<size_t>(tensor.rows() * row_bytes)) {
    return Refuse(tensor, absl::StrCat("holds ", tensor.bytes.size(), " bytes, its shape takes ",
                                       tensor.rows() * row_bytes));
  }
  return row_bytes;
}

const uint8_t* RowAt(const TensorView& tensor, int64_t row, int64_t row_bytes) {
  return reinterpret_cast<const uint8_t*>(tensor.bytes.data()) + row * row_bytes;
}

// Byte j holds code j (low) and j + 16 (high).
void UnpackNibbles(const uint8_t* bytes, int8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<int8_t>(bytes[i] & 15);
    codes[i + 16] = static_cast<int8_t>(bytes[i] >> 4);
  }
}

// -8 * scale in half precision, exactly; nullopt if that is too large.
std::optional<uint16_t> MinimumOfQ4_0(uint16_t scale) {
  constexpr uint16_t kSign = 0x8000;
  const float value = 8 * std::abs(HalfToFloat(scale));
  if (!(value < 65520.0f)) return std::nullopt;
  const uint16_t sign = (scale & kSign) ^ kSign;
  if (value < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<int>(value * 0x1p24f));
  return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(value) - (112u << 23)) >> 13);
}

}  // namespace

absl::Status Dequantize(const TensorView& tensor, int64_t first_row, int64_t rows, float* out) {
  LECTERN_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(tensor, first_row, rows));
  if (rows == 0 || tensor.cols() == 0) return absl::OkStatus();
  DequantizeValues(RowAt(tensor, first_row, row_bytes), rows * tensor.cols(), tensor.type, out);
  return absl::OkStatus();
}

int BlockCodeBits(TensorType type) {
  if (type == TensorType::kQ8_0) return 8;
  return type == TensorType::kQ4_0 || type == TensorType::kQ4_1 ? 4 : 0;
}

absl::Status ReadBlockCodes(const TensorView& tensor, int64_t row, BlockCodes& out) {
  LECTERN_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(tensor, row, 1));
  const int bits = BlockCodeBits(tensor.type);
  if (bits == 0) return Refuse(tensor, "is not in blocks of 32 values");
  const int64_t blocks = tensor.cols() / 32;
  out.codes.resize(tensor.cols());
  out.scale.resize(blocks);
  out.minimum.resize(bits == 4 ? blocks : 0);
  const uint8_t* block = RowAt(tensor, row, row_bytes);
  for (int64_t b = 0; b < blocks; ++b, block += BlockBytes(tensor.type)) {
    int8_t* codes = out.codes.data() + 32 * b;
    out.scale[b] = Load16(block);
    if (tensor.type == TensorType::kQ8_0) {
      std::memcpy(codes, block + 2, 32);
    } else if (tensor.type == TensorType::kQ4_1) {
      out.minimum[b] = Load16(block + 2);
      UnpackNibbles(block + 4, codes);
    } else {
      const std::optional<uint16_t> minimum = MinimumOfQ4_0(out.scale[b]);
      if (!minimum.has_value()) return Refuse(tensor, "holds a scale beyond 8,188");
      out.minimum[b] = *minimum;
      UnpackNibbles(block + 2, codes);
    }
  }
  return absl::OkStatus();
}

}  // namespace lectern
