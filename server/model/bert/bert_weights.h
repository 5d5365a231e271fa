// The weights of a span reader of BERT's kin, ready to be multiplied by.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/bert/bert_config.h"
#include "server/model/layers/linear.h"
#include "server/model/layers/linear_loader.h"

namespace lectern {

struct BertNorm {
  std::vector<float> weight;  // [width]
  std::vector<float> bias;    // [width]
};

struct BertLayer {
  Linear qkv;  // [3, heads, head_dim]
  Linear attention_out;
  BertNorm attention_norm;
  Linear in;  // [intermediate]
  Linear out;
  BertNorm out_norm;
};

// Const after loading, thread-safe. Owns the mapped file.
class BertWeights {
 public:
  // INVALID_ARGUMENT or UNIMPLEMENTED naming file and tensor.
  static absl::StatusOr<std::unique_ptr<const BertWeights>> Load(
      const BertConfig& config, std::unique_ptr<TensorSource> source, const LinearForm& form);

  // bytes() of what Load would return, with Load's errors but for those of the values of weights.
  static absl::StatusOr<uint64_t> Measure(const BertConfig& config,
                                          std::unique_ptr<TensorSource> source,
                                          const LinearForm& form);

  // x [tokens, embedding] = the sum of the embeddings of one window's tokens, positions and, if the
  // model has them, types (0 before `document_begin`, then 1). Ids and positions are in range.
  absl::Status Embed(std::span<const int32_t> tokens, size_t document_begin, float* x) const;
  uint64_t bytes() const;  // memory held, without what is read from the file when it is needed
  const LinearForm& form() const { return form_; }

  BertNorm embedding_norm;
  Linear embedding_projection;  // [hidden]; empty if the embeddings are as wide as the layers
  std::vector<BertLayer> layers;
  // The head that scores whether an answer begins, and ends, at a token; empty without it.
  std::vector<float> span_weights;  // [2, hidden]
  std::vector<float> span_bias;     // [2]

 private:
  BertWeights(std::unique_ptr<TensorSource> source, const LinearForm& form)
      : source_(std::move(source)), form_(form) {}

  // Finds every tensor, reads the small ones, and adds the layers to `loader`.
  absl::Status Prepare(const BertConfig& config, LinearLoader& loader);

  const std::unique_ptr<TensorSource> source_;
  const LinearForm form_;
  const TensorView* words_ = nullptr;
  std::vector<float> positions_;  // [positions, embedding]
  int64_t first_position_ = 0;
  std::vector<float> types_;  // [types, embedding]
};

}  // namespace lectern
