#include "server/model/t5/t5_weights.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/tensor_finder.h"

namespace lectern {
namespace {

// Finds every tensor of a model, and names what each layer is loaded from.
class T5Plan {
 public:
  T5Plan(const T5Config& config, const TensorSource& source, LinearLoader& loader)
      : config_(config), source_(source), finder_(source), loader_(loader) {}

  absl::Status Layer(Linear* layer, const std::vector<std::string>& names, int64_t out, int64_t in,
                     const TensorView* norm = nullptr, float factor = 1) {
    LinearTensors tensors{.norm = norm, .norm_epsilon = config_.rms_eps, .factor = factor};
    for (const std::string& name : names) {
      LinearRows& rows = tensors.rows.emplace_back();
      LECTERN_RETURN_IF_ERROR(finder_.Find(absl::StrCat(name, ".weight"), {out, in}, &rows.weight));
    }
    loader_.Add(layer, std::move(tensors));
    return absl::OkStatus();
  }

  absl::Status Norm(const std::string& name, const TensorView** norm) {
    return finder_.Find(absl::StrCat(name, ".weight"), {config_.hidden}, norm);
  }

  absl::Status SelfAttention(const std::string& part, Linear* qkv, Linear* out) {
    const TensorView* norm = nullptr;
    LECTERN_RETURN_IF_ERROR(Norm(absl::StrCat(part, ".layer_norm"), &norm));
    const std::string self = absl::StrCat(part, ".SelfAttention.");
    LECTERN_RETURN_IF_ERROR(
        Layer(qkv, {self + "q", self + "k", self + "v"}, inner(), config_.hidden, norm));
    return Layer(out, {self + "o"}, config_.hidden, inner());
  }

  absl::Status CrossAttention(const std::string& part, T5DecoderLayer& layer) {
    const TensorView* norm = nullptr;
    LECTERN_RETURN_IF_ERROR(Norm(absl::StrCat(part, ".layer_norm"), &norm));
    const std::string cross = absl::StrCat(part, ".EncDecAttention.");
    LECTERN_RETURN_IF_ERROR(
        Layer(&layer.cross_query, {cross + "q"}, inner(), config_.hidden, norm));
    LECTERN_RETURN_IF_ERROR(
        Layer(&layer.cross_key_value, {cross + "k", cross + "v"}, inner(), config_.hidden));
    return Layer(&layer.cross_out, {cross + "o"}, config_.hidden, inner());
  }

  absl::Status FeedForward(const std::string& part, T5FeedForward& layer) {
    const TensorView* norm = nullptr;
    LECTERN_RETURN_IF_ERROR(Norm(absl::StrCat(part, ".layer_norm"), &norm));
    const std::string dense = absl::StrCat(part, ".DenseReluDense.");
    const std::vector<std::string> in =
        config_.gated ? std::vector<std::string>{dense + "wi_0", dense + "wi_1"}
                      : std::vector<std::string>{dense + "wi"};
    LECTERN_RETURN_IF_ERROR(Layer(&layer.in, in, config_.intermediate, config_.hidden, norm));
    return Layer(&layer.out, {dense + "wo"}, config_.hidden, config_.intermediate);
  }

  absl::Status Bias(const std::string& part, bool bidirectional,
                    std::unique_ptr<const RelativeBias>* bias) {
    const TensorView* table = nullptr;
    LECTERN_RETURN_IF_ERROR(finder_.Find(
        absl::StrCat(part, ".block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        {config_.buckets, config_.heads}, &table));
    std::vector<float> values(config_.buckets * config_.heads);
    LECTERN_RETURN_IF_ERROR(Dequantize(*table, 0, config_.buckets, values.data()));
    *bias = std::make_unique<const RelativeBias>(values, config_, bidirectional);
    return absl::OkStatus();
  }

  // The output matrix: lm_head, or the embedding table of a tied model. A file may say that it is
  // tied and hold another matrix all the same, which counts.
  absl::Status Head(const TensorView& table, const TensorView* norm, Linear* head) {
    const TensorView* own = source_.Find("lm_head.weight");
    const bool differs = own != nullptr && (!HoldSameValues(source_, *own, table));
    const std::string name = config_.tied && !differs ? "shared" : "lm_head";
    const float scale = config_.scales_head
                            ? static_cast<float>(1 / std::sqrt(static_cast<double>(config_.hidden)))
                            : 1.0f;
    return Layer(head, {name}, config_.vocab, config_.hidden, norm, scale);
  }

  TensorFinder& finder() { return finder_; }

 private:
  int64_t inner() const { return config_.heads * config_.head_dim; }

  const T5Config& config_;
  const TensorSource& source_;
  TensorFinder finder_;
  LinearLoader& loader_;
};

}  // namespace

RelativeBias::RelativeBias(const std::vector<float>& table, const T5Config& config,
                           bool bidirectional)
    : head_stride_(2 * kMaxT5Window - 1), values_(config.heads * head_stride_) {
  for (int64_t i = 0; i < head_stride_; ++i) {
    const int64_t bucket =
        T5Bucket(i - (kMaxT5Window - 1), bidirectional, config.buckets, config.max_distance);
    for (int64_t head = 0; head < config.heads; ++head) {
      values_[head * head_stride_ + i] = table[bucket * config.heads + head];
    }
  }
}

absl::StatusOr<std::unique_ptr<const T5Weights>> T5Weights::Load(
    const T5Config& config, std::unique_ptr<TensorSource> source, const LinearForm& form) {
  std::unique_ptr<T5Weights> weights(new T5Weights(std::move(source), form));
  LinearLoader loader(form, *weights->source_);
  LECTERN_RETURN_IF_ERROR(weights->Prepare(config, loader));
  LECTERN_RETURN_IF_ERROR(loader.Run());
  return std::unique_ptr<const T5Weights>(std::move(weights));
}

absl::StatusOr<uint64_t> T5Weights::Measure(const T5Config& config,
                                            std::unique_ptr<TensorSource> source,
                                            const LinearForm& form) {
  T5Weights weights(std::move(source), form);
  LinearLoader loader(form, *weights.source_);
  LECTERN_RETURN_IF_ERROR(weights.Prepare(config, loader));
  LECTERN_RETURN_IF_ERROR(loader.Check());
  return weights.bytes();
}

absl::Status T5Weights::Prepare(const T5Config& config, LinearLoader& loader) {
  T5Plan plan(config, *source_, loader);
  const auto part = [](const char* half, int64_t block, int layer) {
    return absl::StrCat(half, ".block.", block, ".layer.", layer);
  };
  LECTERN_RETURN_IF_ERROR(
      plan.finder().Find("shared.weight", {config.vocab, config.hidden}, &embedding_));
  encoder.resize(config.encoder_layers);
  for (int64_t i = 0; i < config.encoder_layers; ++i) {
    T5EncoderLayer& layer = encoder[i];
    LECTERN_RETURN_IF_ERROR(
        plan.SelfAttention(part("encoder", i, 0), &layer.qkv, &layer.attention_out));
    LECTERN_RETURN_IF_ERROR(plan.FeedForward(part("encoder", i, 1), layer.feed_forward));
  }
  decoder.resize(config.decoder_layers);
  for (int64_t i = 0; i < config.decoder_layers; ++i) {
    T5DecoderLayer& layer = decoder[i];
    LECTERN_RETURN_IF_ERROR(
        plan.SelfAttention(part("decoder", i, 0), &layer.qkv, &layer.attention_out));
    LECTERN_RETURN_IF_ERROR(plan.CrossAttention(part("decoder", i, 1), layer));
    LECTERN_RETURN_IF_ERROR(plan.FeedForward(part("decoder", i, 2), layer.feed_forward));
  }
  const TensorView *encoder_gain = nullptr, *decoder_gain = nullptr;
  LECTERN_RETURN_IF_ERROR(plan.Norm("encoder.final_layer_norm", &encoder_gain));
  LECTERN_RETURN_IF_ERROR(plan.Norm("decoder.final_layer_norm", &decoder_gain));
  encoder_norm.resize(config.hidden);
  LECTERN_RETURN_IF_ERROR(Dequantize(*encoder_gain, 0, 1, encoder_norm.data()));
  LECTERN_RETURN_IF_ERROR(plan.Head(*embedding_, decoder_gain, &head));
  LECTERN_RETURN_IF_ERROR(plan.Bias("encoder", /*bidirectional=*/true, &encoder_bias));
  LECTERN_RETURN_IF_ERROR(plan.Bias("decoder", /*bidirectional=*/false, &decoder_bias));
  // Some files hold the table under several names.
  LECTERN_RETURN_IF_ERROR(plan.finder().RefuseUnused(
      "T5", {"lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight",
             "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"}));
  return absl::OkStatus();
}

absl::Status T5Weights::Embed(std::span<const int32_t> tokens, float* x) const {
  for (const int32_t token : tokens) {
    LECTERN_RETURN_IF_ERROR(Dequantize(*embedding_, token, 1, x));
    x += embedding_->cols();
  }
  return absl::OkStatus();
}

uint64_t T5Weights::bytes() const {
  uint64_t bytes = head.bytes() + encoder_bias->bytes() + decoder_bias->bytes();
  bytes += encoder_norm.size() * sizeof(float);
  const auto add = [&bytes](std::initializer_list<const Linear*> layers) {
    for (const Linear* layer : layers) bytes += layer->bytes();
  };
  for (const T5EncoderLayer& layer : encoder) {
    add({&layer.qkv, &layer.attention_out, &layer.feed_forward.in, &layer.feed_forward.out});
  }
  for (const T5DecoderLayer& layer : decoder) {
    add({&layer.qkv, &layer.attention_out, &layer.cross_query, &layer.cross_key_value,
         &layer.cross_out, &layer.feed_forward.in, &layer.feed_forward.out});
  }
  return bytes;
}

}  // namespace lectern
