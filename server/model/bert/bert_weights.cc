#include "server/model/bert/bert_weights.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/tensor_finder.h"

namespace lectern {
namespace {

// Finds every tensor of a model, and names what each layer is loaded from.
class BertPlan {
 public:
  BertPlan(const BertConfig& config, const TensorSource& source, LinearLoader& loader)
      : config_(config), source_(source), finder_(source), loader_(loader) {
    // A whole model's encoder has a prefix; an encoder alone has none.
    const std::string prefix(config.family->prefix);
    if (source.Find(prefix + "embeddings.word_embeddings.weight") != nullptr) prefix_ = prefix;
  }

  absl::Status Layer(Linear* layer, const std::vector<std::string>& names, int64_t out,
                     int64_t in) {
    LinearTensors tensors;
    for (const std::string& name : names) {
      LinearRows& rows = tensors.rows.emplace_back();
      LECTERN_RETURN_IF_ERROR(
          finder_.Find(absl::StrCat(prefix_, name, ".weight"), {out, in}, &rows.weight));
      LECTERN_RETURN_IF_ERROR(
          finder_.Find(absl::StrCat(prefix_, name, ".bias"), {out}, &rows.bias));
    }
    loader_.Add(layer, std::move(tensors));
    return absl::OkStatus();
  }

  // All values of a tensor.
  absl::Status Values(const std::string& name, const std::vector<int64_t>& shape,
                      std::vector<float>* values) {
    const TensorView* tensor = nullptr;
    LECTERN_RETURN_IF_ERROR(finder_.Find(name, shape, &tensor));
    values->resize(tensor->rows() * tensor->cols());
    return Dequantize(*tensor, 0, tensor->rows(), values->data());
  }

  // Files converted from TensorFlow call a norm's weight and bias gamma and beta.
  absl::Status Norm(const std::string& name, int64_t width, BertNorm* norm) {
    const std::string full = absl::StrCat(prefix_, name);
    const bool old = source_.Find(full + ".gamma") != nullptr;
    LECTERN_RETURN_IF_ERROR(Values(full + (old ? ".gamma" : ".weight"), {width}, &norm->weight));
    return Values(full + (old ? ".beta" : ".bias"), {width}, &norm->bias);
  }

  absl::Status EncoderLayer(int64_t index, BertLayer& layer) {
    const BertTensorNames& names = config_.family->tensors;
    const std::string at = absl::StrCat(std::string(names.layer), index, ".");
    const auto name = [&at](std::string_view part) { return at + std::string(part); };
    const int64_t hidden = config_.hidden;
    LECTERN_RETURN_IF_ERROR(
        Layer(&layer.qkv, {name(names.query), name(names.key), name(names.value)}, hidden, hidden));
    LECTERN_RETURN_IF_ERROR(
        Layer(&layer.attention_out, {name(names.attention_out)}, hidden, hidden));
    LECTERN_RETURN_IF_ERROR(Norm(name(names.attention_norm), hidden, &layer.attention_norm));
    LECTERN_RETURN_IF_ERROR(Layer(&layer.in, {name(names.in)}, config_.intermediate, hidden));
    LECTERN_RETURN_IF_ERROR(Layer(&layer.out, {name(names.out)}, hidden, config_.intermediate));
    return Norm(name(names.out_norm), hidden, &layer.out_norm);
  }

  const std::string& prefix() const { return prefix_; }
  TensorFinder& finder() { return finder_; }

 private:
  const BertConfig& config_;
  const TensorSource& source_;
  TensorFinder finder_;
  LinearLoader& loader_;
  std::string prefix_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const BertWeights>> BertWeights::Load(
    const BertConfig& config, std::unique_ptr<TensorSource> source, const LinearForm& form) {
  std::unique_ptr<BertWeights> weights(new BertWeights(std::move(source), form));
  LinearLoader loader(form, *weights->source_);
  LECTERN_RETURN_IF_ERROR(weights->Prepare(config, loader));
  LECTERN_RETURN_IF_ERROR(loader.Run());
  return std::unique_ptr<const BertWeights>(std::move(weights));
}

absl::StatusOr<uint64_t> BertWeights::Measure(const BertConfig& config,
                                              std::unique_ptr<TensorSource> source,
                                              const LinearForm& form) {
  BertWeights weights(std::move(source), form);
  LinearLoader loader(form, *weights.source_);
  LECTERN_RETURN_IF_ERROR(weights.Prepare(config, loader));
  LECTERN_RETURN_IF_ERROR(loader.Check());
  return weights.bytes();
}

absl::Status BertWeights::Prepare(const BertConfig& config, LinearLoader& loader) {
  BertPlan plan(config, *source_, loader);
  const std::string embeddings = plan.prefix() + "embeddings.";
  const int64_t width = config.embedding;
  LECTERN_RETURN_IF_ERROR(
      plan.finder().Find(embeddings + "word_embeddings.weight", {config.vocab, width}, &words_));
  LECTERN_RETURN_IF_ERROR(plan.Values(embeddings + "position_embeddings.weight",
                                      {config.positions, width}, &positions_));
  first_position_ = config.first_position;
  if (config.types > 0) {
    LECTERN_RETURN_IF_ERROR(
        plan.Values(embeddings + "token_type_embeddings.weight", {config.types, width}, &types_));
  }
  LECTERN_RETURN_IF_ERROR(plan.Norm("embeddings.LayerNorm", width, &embedding_norm));
  if (width != config.hidden) {
    LECTERN_RETURN_IF_ERROR(
        plan.Layer(&embedding_projection, {"embeddings_project"}, config.hidden, width));
  }
  layers.resize(config.layers);
  for (int64_t i = 0; i < config.layers; ++i) {
    LECTERN_RETURN_IF_ERROR(plan.EncoderLayer(i, layers[i]));
  }
  if (config.reads_spans) {
    LECTERN_RETURN_IF_ERROR(plan.Values("qa_outputs.weight", {2, config.hidden}, &span_weights));
    LECTERN_RETURN_IF_ERROR(plan.Values("qa_outputs.bias", {2}, &span_bias));
  }
  // The pooler is for classifying whole texts.
  LECTERN_RETURN_IF_ERROR(plan.finder().RefuseUnused(
      config.family->model_type,
      {"*pooler.dense.weight", "*pooler.dense.bias", "*embeddings.position_ids"}));
  return absl::OkStatus();
}

absl::Status BertWeights::Embed(std::span<const int32_t> tokens, size_t document_begin,
                                float* x) const {
  const int64_t width = words_->cols();
  const int64_t types = static_cast<int64_t>(types_.size()) / width;
  for (size_t i = 0; i < tokens.size(); ++i, x += width) {
    LECTERN_RETURN_IF_ERROR(Dequantize(*words_, tokens[i], 1, x));
    const float* position = positions_.data() + (first_position_ + static_cast<int64_t>(i)) * width;
    for (int64_t c = 0; c < width; ++c) x[c] += position[c];
    if (types == 0) continue;
    const int64_t type = std::min<int64_t>(i < document_begin ? 0 : 1, types - 1);
    for (int64_t c = 0; c < width; ++c) x[c] += types_[type * width + c];
  }
  return absl::OkStatus();
}

uint64_t BertWeights::bytes() const {
  uint64_t values = positions_.size() + types_.size() + span_weights.size() + span_bias.size();
  const auto add = [&values](const BertNorm& norm) {
    values += norm.weight.size() + norm.bias.size();
  };
  add(embedding_norm);
  uint64_t bytes = embedding_projection.bytes();
  for (const BertLayer& layer : layers) {
    add(layer.attention_norm);
    add(layer.out_norm);
    for (const Linear* linear : {&layer.qkv, &layer.attention_out, &layer.in, &layer.out}) {
      bytes += linear->bytes();
    }
  }
  return bytes + values * sizeof(float);
}

}  // namespace lectern
