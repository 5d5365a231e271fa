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
#include "server/formats/block_layouts.h"
#include "server/formats/file_error.h"
#include "server/formats/tensor_source.h"

namespace lectern {
namespace {

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

// d, 4 bytes of top bits, 16 bytes (FiveBitCodes): d * (q - 16).
void Q5_0(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block);
  int8_t codes[32];
  FiveBitCodes(block + 2, block + 6, codes);
  for (int i = 0; i < 32; ++i) out[i] = d * (codes[i] - 16);
}

// d, m, 4 bytes of top bits, 16 bytes: d * q + m.
void Q5_1(const uint8_t* block, float* __restrict out) {
  const float d = LoadHalf(block);
  const float m = LoadHalf(block + 2);
  int8_t codes[32];
  FiveBitCodes(block + 4, block + 8, codes);
  for (int i = 0; i < 32; ++i) out[i] = d * codes[i] + m;
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
    case TensorType::kQ5_0:
      return Blocks<Q5_0>(in, values, type, out);
    case TensorType::kQ5_1:
      return Blocks<Q5_1>(in, values, type, out);
    case TensorType::kQ2_K:
      return Blocks<DequantizeQ2_K>(in, values, type, out);
    case TensorType::kQ3_K:
      return Blocks<DequantizeQ3_K>(in, values, type, out);
    case TensorType::kQ4_K:
      return Blocks<DequantizeQ4_K>(in, values, type, out);
    case TensorType::kQ5_K:
      return Blocks<DequantizeQ5_K>(in, values, type, out);
    case TensorType::kQ6_K:
      return Blocks<DequantizeQ6_K>(in, values, type, out);
    case TensorType::kIQ4_NL:
      return Blocks<DequantizeIQ4_NL>(in, values, type, out);
    case TensorType::kIQ4_XS:
      return Blocks<DequantizeIQ4_XS>(in, values, type, out);
    case TensorType::kMXFP4:
      return Blocks<DequantizeMXFP4>(in, values, type, out);
  }
}

absl::Status Refuse(const TensorView& tensor, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("tensor '", Printable(tensor.name),
                                                 "': ", absl::string_view(why.data(), why.size())));
}

}  // namespace

absl::StatusOr<std::string_view> RowsOf(const TensorView& tensor, int64_t first_row, int64_t rows) {
  if (tensor.shape.size() > 2) return Refuse(tensor, "has more than two dimensions");
  const int64_t cols = tensor.cols();
  if (first_row < 0 || rows < 0 || rows > tensor.rows() || first_row > tensor.rows() - rows) {
    return Refuse(tensor, absl::StrCat("rows ", first_row, " + ", rows, " of ", tensor.rows()));
  }
  const int64_t block_values = BlockValues(tensor.type);
  if (cols % block_values != 0) {
    return Refuse(tensor,
                  absl::StrCat("rows of ", cols, " values are not whole blocks of ", block_values));
  }
  const int64_t row_bytes = cols / block_values * BlockBytes(tensor.type);
  if (tensor.bytes.size() != static_cast<size_t>(tensor.rows() * row_bytes)) {
    return Refuse(tensor, absl::StrCat("holds ", tensor.bytes.size(), " bytes, its shape takes ",
                                       tensor.rows() * row_bytes));
  }
  return tensor.bytes.substr(first_row * row_bytes, rows * row_bytes);
}

absl::Status Dequantize(const TensorView& tensor, int64_t first_row, int64_t rows, float* out) {
  LECTERN_ASSIGN_OR_RETURN(const std::string_view bytes, RowsOf(tensor, first_row, rows));
  if (bytes.empty()) return absl::OkStatus();
  DequantizeValues(reinterpret_cast<const uint8_t*>(bytes.data()), rows * tensor.cols(),
                   tensor.type, out);
  return absl::OkStatus();
}

}  // namespace lectern
