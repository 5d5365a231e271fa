// The weights of a decoder, ready to be multiplied by: blocks of linear layers, norms on their
// results, and an embedding table.
//
// With numerics int8 the model is rotated (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456, section
// 4). In exact arithmetic it stays the same function:
//   * The weights of the norms are folded into the matrices that read the normalised stream.
//   * The residual stream is multiplied by Q (layers/rotation.h): matrices W that read it become
//     W Q, those that write to it Q^T W, their biases b become b Q, and rows e of the embedding
//     table e Q. This needs branches that are added as they are: the weights of a norm on a branch
//     do not commute with Q. A model with such norms keeps its stream, and its matrices mix their
//     input in Hadamard blocks instead.
//   * Value channels, their biases and the columns of attention_out are mixed within each head by
//     Hadamard blocks, which cancel, since attention only averages values.
//   * The columns of `down` are mixed in Hadamard blocks, and so is its input. Queries and keys are
//     mixed after RoPE, where it cancels in the scores.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_tensors.h"
#include "server/model/layers/linear.h"
#include "server/model/layers/linear_loader.h"
#include "server/model/layers/rotation.h"

namespace lectern {

// One layer: attention, then a gated feed-forward part, each added to the residual stream. Norm
// weights are empty where the layer has no such norm.
struct DecoderBlock {
  Linear qkv;                 // [heads + 2 kv_heads, head_dim]: query, key, value of the stream
  Linear attention_out;       // [hidden] from [heads, head_dim]
  Linear gate_up;             // [2, intermediate]: gate, up of the stream
  Linear down;                // [hidden] from [intermediate]
  std::vector<float> q_norm;  // [head_dim] or [heads, head_dim]: DecoderLayer::qk_norm
  std::vector<float> k_norm;  // [head_dim] or [kv_heads, head_dim]
  std::vector<float> attention_post_norm;  // [hidden]
  std::vector<float> ffn_post_norm;        // [hidden]
};

class DecoderPlan;

// Const after loading, thread-safe. Owns the mapped file: rows of the embedding table are read from
// it when they are needed, so that the table is not held twice.
class DecoderWeights {
 public:
  // `tensors` are those of `source`, `others` run while the weights load. Errors are
  // LinearLoader::Run's.
  static absl::StatusOr<std::unique_ptr<const DecoderWeights>> Load(
      const DecoderConfig& config, std::unique_ptr<TensorSource> source, DecoderTensors tensors,
      const LinearForm& form, std::span<const LinearLoader::Task> others = {});

  // bytes() of what Load would return, with Load's errors but for those of the values of weights.
  static absl::StatusOr<uint64_t> Measure(const DecoderConfig& config,
                                          std::unique_ptr<TensorSource> source,
                                          DecoderTensors tensors, const LinearForm& form);

  const LinearForm& form() const { return form_; }
  uint64_t bytes() const;  // memory held, without what is read from the file when it is needed
  // Width of the Hadamard blocks in which the forward pass mixes queries and keys after RoPE,
  // before they are rounded to int8; 1: not.
  int64_t qk_hadamard() const { return qk_hadamard_; }

  bool rotates_stream() const { return rotation_.has_value(); }

  // x [tokens, hidden] = factor * rows of the embedding table. Ids are in range.
  absl::Status Embed(std::span<const int32_t> tokens, float factor, float* x) const;

  std::vector<DecoderBlock> blocks;
  Linear head;  // [vocabulary] of the normed stream

 private:
  DecoderWeights(const DecoderConfig& config, std::unique_ptr<TensorSource> source,
                 DecoderTensors tensors, const LinearForm& form);

  // Reads the norms, and adds every layer to `loader` by `plan`.
  absl::Status Prepare(const DecoderConfig& config, DecoderPlan& plan, LinearLoader& loader);

  absl::Status ReadNorms(const DecoderConfig& config);

  const std::unique_ptr<TensorSource> source_;
  const DecoderTensors tensors_;
  const LinearForm form_;
  std::optional<Rotation> rotation_;  // of the residual stream, if it is rotated
  int64_t qk_hadamard_ = 1;
};

// True if kBlocks can take every matrix: all are in the blocks of a GGUF file.
bool AreInBlocks(const DecoderTensors& tensors);

// True if the matrices, which are in blocks, take less memory with kBlocks than with kInt8Rotated.
bool AreSmallerInBlocks(const DecoderTensors& tensors);

}  // namespace lectern
