#include "server/model/llama/llama_reader.h"

#include "base/status_macros.h"

namespace lectern {

using Matrix = LlamaWeights::Matrix;

absl::StatusOr<std::shared_ptr<const LlamaReader>> LlamaReader::Open(
    LlamaConfig config, std::unique_ptr<TensorSource> source, LlamaNaming naming) {
  LECTERN_ASSIGN_OR_RETURN(LlamaTensors tensors, FindLlamaTensors(*source, config, naming));
  return std::shared_ptr<const LlamaReader>(
      new LlamaReader(std::move(config), std::move(source), std::move(tensors)));
}

LlamaReader::LlamaReader(LlamaConfig config, std::unique_ptr<TensorSource> source,
                         LlamaTensors tensors)
    : config_(std::move(config)), source_(std::move(source)), tensors_(std::move(tensors)) {
  if (tensors_.qk_interleaved) {
    query_order_ = HalfSplitRows(config_.heads, config_.head_dim);
    key_order_ = HalfSplitRows(config_.kv_heads, config_.head_dim);
  }
}

MatrixShape LlamaReader::ShapeOf(Matrix matrix) const {
  switch (matrix) {
    case Matrix::kQkv:
      return {(config_.heads + 2 * config_.kv_heads) * config_.head_dim, config_.hidden};
    case Matrix::kAttentionOut:
      return {config_.hidden, config_.heads * config_.head_dim};
    case Matrix::kGateUp:
      return {2 * config_.intermediate, config_.hidden};
    case Matrix::kDown:
      break;
  }
  return {config_.hidden, config_.intermediate};
}

std::vector<const TensorView*> LlamaReader::TensorsOf(Matrix matrix, int layer) const {
  const LlamaLayerTensors& tensors = tensors_.layers[layer];
  switch (matrix) {
    case Matrix::kQkv:
      return {tensors.q, tensors.k, tensors.v};
    case Matrix::kAttentionOut:
      return {tensors.o};
    case Matrix::kGateUp:
      return {tensors.gate, tensors.up};
    case Matrix::kDown:
      break;
  }
  return {tensors.down};
}

LlamaReader::SourceRow LlamaReader::RowOf(Matrix matrix, int layer, int64_t row) const {
  for (const TensorView* tensor : TensorsOf(matrix, layer)) {
    if (row >= tensor->rows()) {
      row -= tensor->rows();
      continue;
    }
    const LlamaLayerTensors& tensors = tensors_.layers[layer];
    if (tensor == tensors.q && !query_order_.empty()) return {tensor, query_order_[row]};
    if (tensor == tensors.k && !key_order_.empty()) return {tensor, key_order_[row]};
    return {tensor, row};
  }
  return {};
}

absl::Status LlamaReader::ReadHeads(const TensorView& tensor, const std::vector<int64_t>& order,
                                    float* out) const {
  if (order.empty()) return Dequantize(tensor, 0, tensor.rows(), out);
  for (size_t row = 0; row < order.size(); ++row) {
    LECTERN_RETURN_IF_ERROR(
        Dequantize(tensor, order[row], 1, out + static_cast<int64_t>(row) * tensor.cols()));
  }
  return absl::OkStatus();
}

absl::Status LlamaReader::ReadMatrix(Matrix matrix, int layer, float* out) const {
  const LlamaLayerTensors& tensors = tensors_.layers[layer];
  const int64_t head_values = config_.head_dim * config_.hidden;
  const auto read_whole = [&](const TensorView& tensor, float* to) {
    absl::Status status = Dequantize(tensor, 0, tensor.rows(), to);
    source_->DontNeed(tensor);
    return status;
  };
  switch (matrix) {
    case Matrix::kQkv: {
      float* keys = out + config_.heads * head_values;
      LECTERN_RETURN_IF_ERROR(ReadHeads(*tensors.q, query_order_, out));
      LECTERN_RETURN_IF_ERROR(ReadHeads(*tensors.k, key_order_, keys));
      source_->DontNeed(*tensors.q);
      source_->DontNeed(*tensors.k);
      return read_whole(*tensors.v, keys + config_.kv_heads * head_values);
    }
    case Matrix::kGateUp:
      LECTERN_RETURN_IF_ERROR(read_whole(*tensors.gate, out));
      return read_whole(*tensors.up, out + config_.intermediate * config_.hidden);
    case Matrix::kAttentionOut:
      return read_whole(*tensors.o, out);
    case Matrix::kDown:
      break;
  }
  return read_whole(*tensors.down, out);
}

absl::Status LlamaReader::ReadTable(const TensorView& table, int64_t first_row, int64_t rows,
                                    float* out) const {
  LECTERN_RETURN_IF_ERROR(Dequantize(table, first_row, rows, out));
  DoneWithRows(table, first_row, rows);
  return absl::OkStatus();
}

void LlamaReader::DoneWithRows(const TensorView& table, int64_t first_row, int64_t rows) const {
  TensorView part = table;
  const size_t row_bytes = table.bytes.size() / static_cast<size_t>(table.rows());
  part.bytes = table.bytes.substr(first_row * row_bytes, rows * row_bytes);
  source_->DontNeed(part);
}

absl::Status LlamaReader::ReadNorm(const TensorView& norm, float* out) const {
  return Dequantize(norm, 0, norm.rows(), out);
}

}  // namespace lectern
