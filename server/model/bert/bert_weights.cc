#include "server/model/bert/bert_weights.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/tensor_finder.h"
#include "server/model/layers/linear_loader.h"

namespace lectern {
namespace {

// Finds every tensor of a model, and names what each layer is loaded from.
class BertPlan {
 public:
  BertPlan(const BertConfig& config, const TensorSource& source, LinearLoader& loader)
      : config_(config), finder_(source), loader_(loader) {
    // A whole model's encoder has a prefix; an encoder alone has none.
    const std::string prefix = config.type + ".";
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

  absl::Status Norm(const std::string& name, BertNorm* norm) {
    LECTERN_RETURN_IF_ERROR(
        Values(absl::StrCat(prefix_, name, ".weight"), {config_.hidden}, &norm->weight));
    return Values(absl::StrCat(prefix_, name, ".bias"), {config_.hidden}, &norm->bias);
  }

  absl::Status EncoderLayer(int64_t index, BertLayer& layer) {
    const std::string name = absl::StrCat("encoder.layer.", index, ".");
    const std::string self = name + "attention.self.";
    LECTERN_RETURN_IF_ERROR(Layer(&layer.qkv, {self + "query", self + "key", self + "value"},
                                  config_.hidden, config_.hidden));
    LECTERN_RETURN_IF_ERROR(Layer(&layer.attention_out, {name + "attention.output.dense"},
                                  config_.hidden, config_.hidden));
    LECTERN_RETURN_IF_ERROR(Norm(name + "attention.output.LayerNorm", &layer.attention_norm));
    LECTERN_RETURN_IF_ERROR(
        Layer(&layer.in, {name + "intermediate.dense"}, config_.intermediate, config_.hidden));
    LECTERN_RETURN_IF_ERROR(
        Layer(&layer.out, {name + "output.dense"}, config_.hidden, config_.intermediate));
    return Norm(name + "output.LayerNorm", &layer.out_norm);
  }

  const std::string& prefix() const { return prefix_; }
  TensorFinder& finder() { return finder_; }

 private:
  const BertConfig& config_;
  TensorFinder finder_;
  LinearLoader& loader_;
  std::string prefix_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const BertWeights>> BertWeights::Load(
    const BertConfig& config, std::unique_ptr<TensorSource> source, const LinearForm& form) {
  std::unique_ptr<BertWeights> weights(new BertWeights);
  weights->source_ = std::move(source);
  weights->form_ = form;
  LinearLoader loader(form, *weights->source_);
  BertPlan plan(config, *weights->source_, loader);
  const std::string embeddings = plan.prefix() + "embeddings.";
  LECTERN_RETURN_IF_ERROR(plan.finder().Find(embeddings + "word_embeddings.weight",
                                             {config.vocab, config.hidden}, &weights->words_));
  LECTERN_RETURN_IF_ERROR(plan.Values(embeddings + "position_embeddings.weight",
                                      {config.positions, config.hidden}, &weights->positions_));
  weights->first_position_ = config.first_position;
  LECTERN_RETURN_IF_ERROR(plan.Values(embeddings + "token_type_embeddings.weight",
                                      {config.types, config.hidden}, &weights->types_));
  LECTERN_RETURN_IF_ERROR(plan.Norm("embeddings.LayerNorm", &weights->embedding_norm));
  weights->layers.resize(config.layers);
  for (int64_t i = 0; i < config.layers; ++i) {
    LECTERN_RETURN_IF_ERROR(plan.EncoderLayer(i, weights->layers[i]));
  }
  if (config.reads_spans) {
    LECTERN_RETURN_IF_ERROR(
        plan.Values("qa_outputs.weight", {2, config.hidden}, &weights->span_weights));
    LECTERN_RETURN_IF_ERROR(plan.Values("qa_outputs.bias", {2}, &weights->span_bias));
  }
  // The pooler is for classifying whole texts.
  LECTERN_RETURN_IF_ERROR(plan.finder().RefuseUnused(
      "BERT", {"*pooler.dense.weight", "*pooler.dense.bias", "*embeddings.position_ids"}));
  LECTERN_RETURN_IF_ERROR(loader.Run());
  return std::unique_ptr<const BertWeights>(std::move(weights));
}

absl::Status BertWeights::Embed(std::span<const int32_t> tokens, size_t document_begin,
                                float* x) const {
  const int64_t hidden = words_->cols();
  const int64_t last_type = static_cast<int64_t>(types_.size()) / hidden - 1;
  for (size_t i = 0; i < tokens.size(); ++i, x += hidden) {
    LECTERN_RETURN_IF_ERROR(Dequantize(*words_, tokens[i], 1, x));
    const int64_t type = std::min<int64_t>(i < document_begin ? 0 : 1, last_type);
    const float* position =
        positions_.data() + (first_position_ + static_cast<int64_t>(i)) * hidden;
    for (int64_t c = 0; c < hidden; ++c) x[c] += types_[type * hidden + c] + position[c];
  }
  return absl::OkStatus();
}

uint64_t BertWeights::bytes() const {
  uint64_t bytes = sizeof(float) * (positions_.size() + types_.size() + span_weights.size());
  for (const BertLayer& layer : layers) {
    for (const Linear* linear : {&layer.qkv, &layer.attention_out, &layer.in, &layer.out}) {
      bytes += linear->bytes();
    }
  }
  return bytes;
}

}  // namespace lectern
