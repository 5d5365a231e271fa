#include "server/model/llama/rotated_matrices.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/rows/hadamard.h"

namespace lectern {
namespace {

using Matrix = LlamaWeights::Matrix;

// The widest Hadamard block of ffn_down's input: wider blocks spread outliers no better and cost
// more.
constexpr int64_t kMaxDownBlock = 512;

// Mixes each row of x [rows, cols] within blocks. The shapes are right by construction, so the
// kernel has no reason to refuse.
void MixColumns(float* x, int64_t rows, int64_t cols, int64_t block) {
  if (block <= 1) return;
  (void)kernels::BlockHadamard(x, rows, cols, cols, block, kernels::ExecutionContext{});
}

// Mixes the rows of x [rows, cols] within blocks of `block` rows.
void MixRows(float* x, int64_t rows, int64_t cols, int64_t block, AlignedBuffer<float>& scratch) {
  if (block <= 1) return;
  // Transposed, block by block, so that the same transform serves.
  float* turned = scratch.Reserve(block * cols);
  for (int64_t first = 0; first < rows; first += block) {
    float* in = x + first * cols;
    for (int64_t r = 0; r < block; ++r) {
      for (int64_t c = 0; c < cols; ++c) turned[c * block + r] = in[r * cols + c];
    }
    MixColumns(turned, cols, block, block);
    for (int64_t r = 0; r < block; ++r) {
      for (int64_t c = 0; c < cols; ++c) in[r * cols + c] = turned[c * block + r];
    }
  }
}

}  // namespace

RotatedMatrices::RotatedMatrices(const LlamaReader& reader)
    : reader_(reader),
      config_(reader.config()),
      rotation_(config_.hidden),
      head_block_(PowerOfTwoFactor(config_.head_dim) == config_.head_dim ? config_.head_dim : 1),
      down_block_(std::min(PowerOfTwoFactor(config_.intermediate), kMaxDownBlock)) {}

absl::Status RotatedMatrices::FoldReader(const TensorView& norm, int64_t rows, float* matrix,
                                         AlignedBuffer<float>& scratch) const {
  const int64_t hidden = config_.hidden;
  float* gain = scratch.Reserve(hidden);
  LECTERN_RETURN_IF_ERROR(reader_.ReadNorm(norm, gain));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < hidden; ++i) matrix[row * hidden + i] *= gain[i];
  }
  rotation_.ApplyToRows(matrix, rows, gain);
  return absl::OkStatus();
}

absl::Status RotatedMatrices::Read(Matrix matrix, int layer, float* out,
                                   AlignedBuffer<float>& scratch) const {
  const MatrixShape shape = reader_.ShapeOf(matrix);
  LECTERN_RETURN_IF_ERROR(reader_.ReadMatrix(matrix, layer, out));
  switch (matrix) {
    case Matrix::kQkv: {
      LECTERN_RETURN_IF_ERROR(
          FoldReader(*reader_.tensors().layers[layer].attn_norm, shape.rows, out, scratch));
      const int64_t value_rows = config_.kv_heads * config_.head_dim;
      MixRows(out + (shape.rows - value_rows) * shape.cols, value_rows, shape.cols, head_block_,
              scratch);
      break;
    }
    case Matrix::kGateUp:
      return FoldReader(*reader_.tensors().layers[layer].ffn_norm, shape.rows, out, scratch);
    case Matrix::kAttentionOut:
    case Matrix::kDown:
      MixColumns(out, shape.rows, shape.cols, matrix == Matrix::kDown ? down_block_ : head_block_);
      rotation_.ApplyToColumns(out, shape.cols, scratch.Reserve(rotation_.odd() * shape.cols));
      break;
  }
  return absl::OkStatus();
}

absl::Status RotatedMatrices::ReadHead(int64_t first_row, int64_t rows, float* out,
                                       AlignedBuffer<float>& scratch) const {
  LECTERN_RETURN_IF_ERROR(reader_.ReadTable(*reader_.tensors().output, first_row, rows, out));
  return FoldReader(*reader_.tensors().final_norm, rows, out, scratch);
}

absl::Status RotatedMatrices::ReadEmbedding(int32_t token, float* out, float* scratch) const {
  LECTERN_RETURN_IF_ERROR(Dequantize(*reader_.tensors().token_embedding, token, 1, out));
  rotation_.ApplyToRows(out, 1, scratch);
  return absl::OkStatus();
}

}  // namespace lectern
