// Named tensors of a model file, in either format: GGUF or safetensors, one file or several.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern {

// Element and block types. Block types hold 32 or 256 values a block along the last axis.
enum class TensorType {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4
};

std::string_view ToString(TensorType type);
// Values per block (1 for the plain types) and bytes per block.
int64_t BlockValues(TensorType type);
int64_t BlockBytes(TensorType type);

// A view into the mapped file; valid as long as its TensorSource.
struct TensorView {
  std::string_view name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;  // outermost first: a linear layer's weight is [out, in]
  std::string_view bytes;      // row-major

  int64_t rows() const { return shape.empty() ? 1 : shape.size() == 1 ? 1 : shape[0]; }
  int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
};

// Immutable after opening, thread-safe. Keeps the file mapped.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::string& path() const = 0;
  // Null if there is no tensor of this name.
  virtual const TensorView* Find(std::string_view name) const = 0;
  virtual std::vector<std::string_view> Names() const = 0;
  // The pages of this tensor will not be read again soon (keeps peak memory low while loading).
  virtual void DontNeed(const TensorView& tensor) const = 0;
};

// Writes rows [first_row, first_row + rows) of a one- or two-dimensional tensor as fp32, densely,
// to `out` [rows, cols]. INVALID_ARGUMENT, naming the tensor, if the range or the type does not
// fit. Non-finite values are passed through.
absl::Status Dequantize(const TensorView& tensor, int64_t first_row, int64_t rows, float* out);

// A row of a tensor as codes with a scale for each 32 values: value = scale * code + minimum,
// scales and minima in half precision.
struct BlockCodes {
  std::vector<int8_t> codes;      // [cols]
  std::vector<uint16_t> scale;    // [cols / 32]
  std::vector<uint16_t> minimum;  // [cols / 32]; empty with 8 bits
};

// Bits of the smallest codes that hold a type's values without another rounding of the codes: 4
// (Q4_0, Q4_1, Q4_K) or 8 (all others).
int BlockCodeBits(TensorType type);

// True if the codes of such a row are those of the file; then at most scales are rounded to half
// precision (Q4_K). The values of all other types are rounded to 8 bits.
bool KeepsBlockCodes(TensorType type);

// Reads row `row` as codes of `bits` bits, 8 or BlockCodeBits(). INVALID_ARGUMENT naming the tensor
// when its rows are no multiple of 32 values, it has no such row, or half precision cannot hold a
// scale or a minimum.
absl::Status ReadBlockCodes(const TensorView& tensor, int64_t row, int bits, BlockCodes& out);

}  // namespace lectern
