// Layouts of quantised blocks. Each function of a type reads one block (BlockBytes of its type) and
// writes its BlockValues values or codes. Stateless, thread-safe.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace lectern {

static_assert(std::endian::native == std::endian::little, "model files are read in place");

// Branch-free, so that loops over it vectorise; independent of the denormals-are-zero mode.
inline float HalfToFloat(uint16_t half) {
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

inline uint16_t Load16(const uint8_t* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

inline float LoadHalf(const uint8_t* bytes) { return HalfToFloat(Load16(bytes)); }

// The halves of K types: d, and dmin of Q4_K and Q5_K.
inline float ScaleOfK(const uint8_t* block) { return LoadHalf(block); }
inline float MinimumOfK(const uint8_t* block) { return LoadHalf(block + 2); }
inline float ScaleOfQ3_K(const uint8_t* block) { return LoadHalf(block + 108); }
inline float ScaleOfQ6_K(const uint8_t* block) { return LoadHalf(block + 208); }

// Codes of 32 values from 16 bytes: byte j holds code j (low) and j + 16 (high).
void NibbleCodes(const uint8_t* bytes, int8_t* codes);
// Adds a fifth bit to NibbleCodes: bit j of the little-endian word `high` is the top bit of code j.
void FiveBitCodes(const uint8_t* high, const uint8_t* low, int8_t* codes);

// Codes of 256 values, and the bytes of their scales. Q3_K and Q6_K: value = d * scale * code, a
// signed scale for each 16 values. Q4_K and Q5_K: value = d * scale * code - dmin * minimum, for
// each 32 values.
void CodesOfQ3_K(const uint8_t* block, int8_t* codes, int8_t* scale);
void CodesOfQ6_K(const uint8_t* block, int8_t* codes, int8_t* scale);
void CodesOfQ4_K(const uint8_t* block, int8_t* codes, uint8_t* scale, uint8_t* minimum);
void CodesOfQ5_K(const uint8_t* block, int8_t* codes, uint8_t* scale, uint8_t* minimum);
// IQ4_NL (32 values) and IQ4_XS: value = scale * code, a scale for each 32 values.
void CodesOfIQ4_NL(const uint8_t* block, int8_t* codes, float* scale);
void CodesOfIQ4_XS(const uint8_t* block, int8_t* codes, float* scale);

void DequantizeQ2_K(const uint8_t* block, float* out);
void DequantizeQ3_K(const uint8_t* block, float* out);
void DequantizeQ4_K(const uint8_t* block, float* out);
void DequantizeQ5_K(const uint8_t* block, float* out);
void DequantizeQ6_K(const uint8_t* block, float* out);
void DequantizeIQ4_NL(const uint8_t* block, float* out);
void DequantizeIQ4_XS(const uint8_t* block, float* out);
void DequantizeMXFP4(const uint8_t* block, float* out);

}  // namespace lectern
