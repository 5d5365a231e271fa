// Block layouts: GGUF specification and the `gguf` package's documentation of its types. All
// products are exact in fp32, as in dequantize.cc.
#include "server/formats/block_layouts.h"

#include <cmath>
#include <cstring>

namespace lectern {
namespace {

// The values of the four-bit codes of IQ4_NL and IQ4_XS.
constexpr int8_t kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
// Twice the values of the four-bit floating-point codes (E2M1) of MXFP4.
constexpr int8_t kTwiceE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Codes of 32 values, looked up in `table`.
void LookUpNibbles(const int8_t* table, const uint8_t* bytes, int8_t* codes) {
  NibbleCodes(bytes, codes);
  for (int i = 0; i < 32; ++i) codes[i] = table[codes[i]];
}

// d, dmin, 12 bytes with eight 6-bit scales and eight 6-bit minima: sub-block s of 32 values is
// d * scale[s] * q - dmin * min[s]. Bytes 0..3 hold scales 0..3 in the low six bits, bytes 4..7
// minima 0..3; bytes 8..11 hold the low nibbles of scales 4..7 (low) and minima 4..7 (high), whose
// upper two bits are the top bits of bytes 0..3 and 4..7.
void SubScalesOf(const uint8_t* block, uint8_t* scale, uint8_t* minimum) {
  const uint8_t* packed = block + 4;
  for (int s = 0; s < 4; ++s) {
    scale[s] = packed[s] & 63;
    minimum[s] = packed[s + 4] & 63;
    scale[s + 4] = static_cast<uint8_t>((packed[s + 8] & 15) | (packed[s] >> 6) << 4);
    minimum[s + 4] = static_cast<uint8_t>((packed[s + 8] >> 4) | (packed[s + 4] >> 6) << 4);
  }
}

// The values of a block of codes that have a scale, and a minimum or null, for each kGroup.
template <int kGroup>
void Multiply(const int8_t* codes, int values, const float* scale, const float* minimum,
              float* __restrict out) {
  for (int first = 0; first < values; first += kGroup, ++scale) {
    const float s = *scale, m = minimum == nullptr ? 0.0f : *minimum++;
    for (int i = first; i < first + kGroup; ++i) out[i] = s * codes[i] - m;
  }
}

// The values of a block of Q4_K or Q5_K.
template <void (*kCodes)(const uint8_t*, int8_t*, uint8_t*, uint8_t*)>
void DequantizeK(const uint8_t* block, float* out) {
  int8_t codes[256];
  uint8_t scale_bytes[8], minimum_bytes[8];
  kCodes(block, codes, scale_bytes, minimum_bytes);
  float scale[8], minimum[8];
  for (int s = 0; s < 8; ++s) {
    scale[s] = ScaleOfK(block) * scale_bytes[s];
    minimum[s] = MinimumOfK(block) * minimum_bytes[s];
  }
  Multiply<32>(codes, 256, scale, minimum, out);
}

// The values of a block of Q3_K or Q6_K.
template <void (*kCodes)(const uint8_t*, int8_t*, int8_t*)>
void DequantizeSixteens(const uint8_t* block, float d, float* out) {
  int8_t codes[256], bytes[16];
  kCodes(block, codes, bytes);
  float scale[16];
  for (int s = 0; s < 16; ++s) scale[s] = d * bytes[s];
  Multiply<16>(codes, 256, scale, nullptr, out);
}

}  // namespace

void NibbleCodes(const uint8_t* bytes, int8_t* __restrict codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<int8_t>(bytes[i] & 15);
    codes[i + 16] = static_cast<int8_t>(bytes[i] >> 4);
  }
}

void FiveBitCodes(const uint8_t* high, const uint8_t* low, int8_t* codes) {
  uint32_t top;
  std::memcpy(&top, high, sizeof(top));
  NibbleCodes(low, codes);
  for (int i = 0; i < 32; ++i) codes[i] |= static_cast<int8_t>(((top >> i) & 1) << 4);
}

// Sixteen bytes with a 4-bit scale (low) and minimum (high) for each group of 16 values, 64 bytes
// of two-bit codes, d, dmin: d * scale * q - dmin * minimum. Each half of 128 values takes 32
// bytes: value 32 g + i has bits 2 g of byte i.
void DequantizeQ2_K(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block + 80);
  const float dmin = LoadHalf(block + 82);
  for (int group = 0; group < 16; ++group, out += 16) {
    const float scale = d * (block[group] & 15);
    const float minimum = dmin * (block[group] >> 4);
    const uint8_t* codes = block + 16 + 32 * (group / 8) + 16 * (group % 2);
    const int shift = 2 * (group % 8 / 2);
    for (int i = 0; i < 16; ++i) out[i] = scale * ((codes[i] >> shift) & 3) - minimum;
  }
}

// 32 bytes of top bits, 64 bytes of two-bit codes as in Q2_K, 12 bytes with sixteen 6-bit scales,
// d: d * (scale - 32) * (q - 4). Bit s of byte i is the top bit of value 32 s + i. Scale g has its
// low nibble in byte g % 8 (high half of the byte for g >= 8) and bits 2 (g / 4) of byte 8 + g % 4
// on top.
void CodesOfQ3_K(const uint8_t* block, int8_t* __restrict codes, int8_t* __restrict scale) {
  const uint8_t* packed = block + 96;
  for (int group = 0; group < 16; ++group, codes += 16) {
    const int low = (packed[group % 8] >> (group < 8 ? 0 : 4)) & 15;
    const int high = (packed[8 + group % 4] >> (2 * (group / 4))) & 3;
    scale[group] = static_cast<int8_t>((low | high << 4) - 32);
    const uint8_t* top = block + 16 * (group % 2);
    const uint8_t* two = block + 32 + 32 * (group / 8) + 16 * (group % 2);
    const int shift = 2 * (group % 8 / 2);
    for (int i = 0; i < 16; ++i) {
      const int code = ((two[i] >> shift) & 3) | ((top[i] >> (group / 2)) & 1) << 2;
      codes[i] = static_cast<int8_t>(code - 4);
    }
  }
}

void DequantizeQ3_K(const uint8_t* block, float* out) {
  DequantizeSixteens<CodesOfQ3_K>(block, ScaleOfQ3_K(block), out);
}

// Scales and minima (SubScalesOf), 128 bytes of codes: 32 bytes serve two sub-blocks, low nibbles
// the even one.
void CodesOfQ4_K(const uint8_t* block, int8_t* __restrict codes, uint8_t* scale, uint8_t* minimum) {
  SubScalesOf(block, scale, minimum);
  const uint8_t* bytes = block + 16;
  for (int pair = 0; pair < 4; ++pair, bytes += 32, codes += 64) {
    for (int i = 0; i < 32; ++i) {
      codes[i] = static_cast<int8_t>(bytes[i] & 15);
      codes[i + 32] = static_cast<int8_t>(bytes[i] >> 4);
    }
  }
}

void DequantizeQ4_K(const uint8_t* block, float* out) { DequantizeK<CodesOfQ4_K>(block, out); }

// Scales and minima as in Q4_K, 32 bytes of top bits, 128 bytes of low nibbles as in Q4_K: bit s of
// byte i is the top bit of value i of sub-block s.
void CodesOfQ5_K(const uint8_t* block, int8_t* __restrict codes, uint8_t* scale, uint8_t* minimum) {
  SubScalesOf(block, scale, minimum);
  const uint8_t* top = block + 16;
  const uint8_t* low = block + 48;
  for (int s = 0; s < 8; ++s, codes += 32) {
    const uint8_t* nibbles = low + 32 * (s / 2);
    for (int i = 0; i < 32; ++i) {
      const int code = ((nibbles[i] >> (4 * (s % 2))) & 15) | ((top[i] >> s) & 1) << 4;
      codes[i] = static_cast<int8_t>(code);
    }
  }
}

void DequantizeQ5_K(const uint8_t* block, float* out) { DequantizeK<CodesOfQ5_K>(block, out); }

// 128 bytes of low nibbles, 64 bytes of upper two bits, sixteen signed scales, d: groups of 16
// values share d * scale, codes are q - 32. Each half of 128 values takes 64 low and 32 high bytes:
// value 32 g + i has its nibble in byte i + 32 (g % 2), low for g < 2, and its upper bits at 2 g of
// byte i.
void CodesOfQ6_K(const uint8_t* block, int8_t* __restrict codes, int8_t* scale) {
  std::memcpy(scale, block + 192, 16);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    for (int g = 0; g < 4; ++g, codes += 32) {
      const uint8_t* nibbles = low + 32 * (g % 2);
      const int shift = g < 2 ? 0 : 4;
      for (int i = 0; i < 32; ++i) {
        const int code = ((nibbles[i] >> shift) & 15) | ((high[i] >> (2 * g)) & 3) << 4;
        codes[i] = static_cast<int8_t>(code - 32);
      }
    }
  }
}

void DequantizeQ6_K(const uint8_t* block, float* out) {
  DequantizeSixteens<CodesOfQ6_K>(block, ScaleOfQ6_K(block), out);
}

// d, 16 bytes of nibbles: d * kNonLinear[q].
void CodesOfIQ4_NL(const uint8_t* block, int8_t* codes, float* scale) {
  *scale = LoadHalf(block);
  LookUpNibbles(kNonLinear, block + 2, codes);
}

void DequantizeIQ4_NL(const uint8_t* block, float* out) {
  int8_t codes[32];
  float scale;
  CodesOfIQ4_NL(block, codes, &scale);
  Multiply<32>(codes, 32, &scale, nullptr, out);
}

// d, two bytes with the upper two bits of eight 6-bit scales, four bytes with their low nibbles,
// 128 bytes of nibbles: sub-block s of 32 values is d * (scale - 32) * kNonLinear[q].
void CodesOfIQ4_XS(const uint8_t* block, int8_t* codes, float* scale) {
  const float d = LoadHalf(block);
  const int high = Load16(block + 2);
  for (int s = 0; s < 8; ++s) {
    const int low = (block[4 + s / 2] >> (4 * (s % 2))) & 15;
    scale[s] = d * ((low | ((high >> (2 * s)) & 3) << 4) - 32);
    LookUpNibbles(kNonLinear, block + 8 + 16 * s, codes + 32 * s);
  }
}

void DequantizeIQ4_XS(const uint8_t* block, float* out) {
  int8_t codes[256];
  float scale[8];
  CodesOfIQ4_XS(block, codes, scale);
  Multiply<32>(codes, 256, scale, nullptr, out);
}

// An exponent e, 16 bytes of nibbles: 2^(e - 127) times the value of the E2M1 code.
void DequantizeMXFP4(const uint8_t* block, float* out) {
  int8_t codes[32];
  LookUpNibbles(kTwiceE2M1, block + 1, codes);
  const float scale = std::ldexp(1.0f, block[0] - 128);
  Multiply<32>(codes, 32, &scale, nullptr, out);
}

}  // namespace lectern
