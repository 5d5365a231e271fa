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
enum class TensorType { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ4_K, kQ6_K };

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

// A row of a tensor in blocks of 32 as the file holds it: value = scale * code + minimum, scales
// and minima in half precision.
struct BlockCodes {
  std::vector<int8_t> codes;      // [cols]
  std::vector<uint16_t> scale;    // [cols / 32]
  std::vector<uint16_t> minimum;  // [cols / 32]; empty with 8 bits
};

// Bits of a code: 4 (Q4_0, Q4_1) or 8 (Q8_0); 0 for types that are not in blocks of 32.
int BlockCodeBits(TensorType type);

// Reads row `row`. INVALID_ARGUMENT naming the tensor when it is not in blocks of 32, has no such
// row, or holds a scale whose minimum half precision cannot hold.
absl::Status ReadBlockCodes(const TensorView& tensor, int64_t row, BlockCodes& out);

}  // namespace lectern
