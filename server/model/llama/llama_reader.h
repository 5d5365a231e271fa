// Reads the tensors of a Llama file as fp32, in the arrangement that the forward pass multiplies
// by: query, key and value in one matrix, gate and up in another, queries and keys in half-split
// pairs.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/llama/llama_config.h"
#include "server/model/llama/llama_tensors.h"
#include "server/model/llama/llama_weights.h"

namespace lectern {

struct MatrixShape {
  int64_t rows = 0;
  int64_t cols = 0;
};

// Immutable, thread-safe. Owns the mapped file. Errors of the Read functions are Dequantize's.
class LlamaReader {
 public:
  // Errors are FindLlamaTensors'.
  static absl::StatusOr<std::shared_ptr<const LlamaReader>> Open(
      LlamaConfig config, std::unique_ptr<TensorSource> source, LlamaNaming naming);

  const LlamaConfig& config() const { return config_; }
  const LlamaTensors& tensors() const { return tensors_; }
  const TensorSource& source() const { return *source_; }

  MatrixShape ShapeOf(LlamaWeights::Matrix matrix) const;
  // The tensors of a matrix, from its first row to its last.
  std::vector<const TensorView*> TensorsOf(LlamaWeights::Matrix matrix, int layer) const;
  // Where the file has row `row` of a matrix.
  struct SourceRow {
    const TensorView* tensor = nullptr;
    int64_t row = 0;
  };
  SourceRow RowOf(LlamaWeights::Matrix matrix, int layer, int64_t row) const;
  // Writes the whole matrix to out [rows, cols] of its shape and lets the file's pages go.
  absl::Status ReadMatrix(LlamaWeights::Matrix matrix, int layer, float* out) const;
  // Writes rows [first_row, first_row + rows) of the embedding table or the output head, [rows,
  // hidden], and lets the file's pages go.
  absl::Status ReadTable(const TensorView& table, int64_t first_row, int64_t rows,
                         float* out) const;
  // Rows [first_row, first_row + rows) of the table will not be read again soon.
  void DoneWithRows(const TensorView& table, int64_t first_row, int64_t rows) const;
  // Writes all values of a norm's gain [hidden].
  absl::Status ReadNorm(const TensorView& norm, float* out) const;

 private:
  LlamaReader(LlamaConfig config, std::unique_ptr<TensorSource> source, LlamaTensors tensors);

  // Writes rows of q or k in half-split order.
  absl::Status ReadHeads(const TensorView& tensor, const std::vector<int64_t>& order,
                         float* out) const;

  const LlamaConfig config_;
  const std::unique_ptr<TensorSource> source_;
  const LlamaTensors tensors_;
  // Row order of q and k; empty when the file has them half-split.
  std::vector<int64_t> query_order_;
  std::vector<int64_t> key_order_;
};

}  // namespace lectern
