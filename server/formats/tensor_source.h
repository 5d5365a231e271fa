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

// Whether two tensors of `source` are equal. Gives their pages back as it reads them.
bool HoldSameValues(const TensorSource& source, const TensorView& a, const TensorView& b);

// The bytes of rows [first_row, first_row + rows) of a one- or two-dimensional tensor.
// INVALID_ARGUMENT, naming the tensor, if the range or the type does not fit.
absl::StatusOr<std::string_view> RowsOf(const TensorView& tensor, int64_t first_row, int64_t rows);

// Writes rows [first_row, first_row + rows) of a one- or two-dimensional tensor as fp32, densely,
// to `out` [rows, cols]. INVALID_ARGUMENT, naming the tensor, if the range or the type does not
// fit. Non-finite values are passed through.
absl::Status Dequantize(const TensorView& tensor, int64_t first_row, int64_t rows, float* out);

// The form in which the block kernels (kernels/linear/block_linear.h) take a type's values.
struct BlockForm {
  int bits = 8;  // of a code: 4 or 5 with minima, 6 or 8 without
  // Scales and minima are bytes times a half for 256 values, as in the K types; else halves.
  bool two_levels = false;
  // False: the codes are those of the file. True: no form has such codes, and the values are
  // rounded to codes of 8 bits.
  bool rounds = true;
};
BlockForm BlockFormOf(TensorType type);

// A row of a tensor in that form: the fields of kernels::BlockChannel, where ranges of codes and
// the numbers of values that share a scale are explained.
struct BlockCodes {
  std::vector<int8_t> codes;
  std::vector<uint16_t> scale;
  std::vector<uint16_t> minimum;  // empty where the form has none, as those that follow
  std::vector<uint8_t> sub_scale;
  std::vector<uint8_t> sub_minimum;
};

// Reads row `row` in the form of its type. INVALID_ARGUMENT naming the tensor when its rows are no
// multiple of 32 values, it has no such row, or half precision cannot hold a scale or a minimum.
absl::Status ReadBlockCodes(const TensorView& tensor, int64_t row, BlockCodes& out);

}  // namespace lectern
