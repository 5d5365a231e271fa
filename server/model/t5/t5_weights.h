// The weights of a T5 model, ready to be multiplied by. The weight of a norm belongs to the layer
// that reads the normalised stream, except for the encoder's last norm, which makes its output.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/layers/linear.h"
#include "server/model/layers/linear_loader.h"
#include "server/model/t5/t5_config.h"

namespace lectern {

// A feed-forward part: activation(in x) or activation(gate x) * (up x), then out.
struct T5FeedForward {
  Linear in;  // [intermediate], or [2, intermediate]: gate, up
  Linear out;
};

struct T5EncoderLayer {
  Linear qkv;  // [3, heads, head_dim]
  Linear attention_out;
  T5FeedForward feed_forward;
};

struct T5DecoderLayer {
  Linear qkv;
  Linear attention_out;
  Linear cross_query;      // [heads, head_dim]
  Linear cross_key_value;  // [2, heads, head_dim] of the encoder's output
  Linear cross_out;
  T5FeedForward feed_forward;
};

// The bias that each head adds to a score for the distance between two positions (section 2.1 of
// the T5 paper), laid out so that a row of queries reads consecutive values.
class RelativeBias {
 public:
  // `table` [buckets, heads].
  RelativeBias(const std::vector<float>& table, const T5Config& config, bool bidirectional);

  // For the query at `position`: its value for head h and key j is at [h * head_stride() + j]; the
  // next query's is one float earlier.
  const float* At(int64_t position) const { return values_.data() + kMaxT5Window - 1 - position; }
  int64_t head_stride() const { return head_stride_; }
  uint64_t bytes() const { return values_.size() * sizeof(float); }

 private:
  int64_t head_stride_ = 0;
  std::vector<float> values_;  // [heads, distances from 1 - kMaxT5Window on]
};

// Const after loading, thread-safe. Owns the mapped file.
class T5Weights {
 public:
  // INVALID_ARGUMENT or UNIMPLEMENTED naming file and tensor.
  static absl::StatusOr<std::unique_ptr<const T5Weights>> Load(const T5Config& config,
                                                               std::unique_ptr<TensorSource> source,
                                                               const LinearForm& form);

  // bytes() of what Load would return, with Load's errors but for those of the values of weights.
  static absl::StatusOr<uint64_t> Measure(const T5Config& config,
                                          std::unique_ptr<TensorSource> source,
                                          const LinearForm& form);

  // x [tokens, hidden] = rows of the embedding table. Ids are in range.
  absl::Status Embed(std::span<const int32_t> tokens, float* x) const;
  uint64_t bytes() const;  // memory held, without what is read from the file when it is needed
  const LinearForm& form() const { return form_; }

  std::vector<T5EncoderLayer> encoder;
  std::vector<T5DecoderLayer> decoder;
  std::vector<float> encoder_norm;  // [hidden]
  Linear head;                      // [vocabulary] of the normalised stream
  std::unique_ptr<const RelativeBias> encoder_bias;
  std::unique_ptr<const RelativeBias> decoder_bias;

 private:
  T5Weights(std::unique_ptr<TensorSource> source, const LinearForm& form)
      : source_(std::move(source)), form_(form) {}

  // Finds every tensor, reads the small ones, and adds the layers to `loader`.
  absl::Status Prepare(const T5Config& config, LinearLoader& loader);

  const std::unique_ptr<TensorSource> source_;
  const LinearForm form_;
  const TensorView* embedding_ = nullptr;
};

}  // namespace lectern
