// The matrices of a Llama, rotated so that they can be multiplied in int8 with one scale per row
// (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456, section 4). In exact arithmetic the model is the
// same function:
//   * the gains of the norms are folded into the matrices that read the normed stream;
//   * the residual stream is multiplied by Q (rotation.h): readers W become W Q, writers Q^T W,
//   rows of
//     the embedding e Q;
//   * value rows and the columns of the attention output are mixed within each head by a Hadamard
//     matrix, which cancels, since attention only averages values;
//   * the columns of ffn_down are mixed by Hadamard blocks; the forward pass does the same to its
//     input, and to queries and keys after RoPE, where it cancels in the scores.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "base/aligned_buffer.h"
#include "server/model/llama/llama_reader.h"
#include "server/model/llama/llama_weights.h"
#include "server/model/llama/rotation.h"

namespace lectern {

// Const after construction, thread-safe. Refers to `reader`, which must outlive it.
class RotatedMatrices {
 public:
  explicit RotatedMatrices(const LlamaReader& reader);

  int64_t qk_hadamard() const { return head_block_ > 1 ? head_block_ : 0; }
  int64_t down_hadamard() const { return down_block_ > 1 ? down_block_ : 0; }

  // Writes the whole matrix to out [rows, cols] of its shape. Errors are the loader's.
  absl::Status Read(LlamaWeights::Matrix matrix, int layer, float* out,
                    AlignedBuffer<float>& scratch) const;
  // Rows [first_row, first_row + rows) of the output head, [rows, hidden].
  absl::Status ReadHead(int64_t first_row, int64_t rows, float* out,
                        AlignedBuffer<float>& scratch) const;
  // One row of the embedding table, [hidden].
  absl::Status ReadEmbedding(int32_t token, float* out, float* scratch) const;

 private:
  // matrix [rows, hidden] = matrix diag(gain) Q.
  absl::Status FoldReader(const TensorView& norm, int64_t rows, float* matrix,
                          AlignedBuffer<float>& scratch) const;

  const LlamaReader& reader_;
  const LlamaConfig& config_;
  const Rotation rotation_;
  const int64_t head_block_;  // head_dim if that is a power of two, else 1
  const int64_t down_block_;
};

}  // namespace lectern
