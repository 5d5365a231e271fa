#include "server/model/decoder/decoder_weights.h"

#include <utility>

#include "base/status_macros.h"

namespace lectern {
namespace {

// Width of the Hadamard matrix that mixes one head; 1 where a head has no such width.
int64_t HeadHadamard(const DecoderConfig& config) {
  return PowerOfTwoFactor(config.head_dim) == config.head_dim ? config.head_dim : 1;
}

// Names what each layer is loaded from.
class DecoderPlan {
 public:
  DecoderPlan(const DecoderConfig& config, const DecoderTensors& tensors, const Rotation* rotation)
      : norm_epsilon_(config.rms_eps), head_hadamard_(HeadHadamard(config)), rotation_(rotation) {
    if (!tensors.qk_interleaved) return;
    query_order_ = HalfSplitRows(config.heads, config.head_dim);
    key_order_ = HalfSplitRows(config.kv_heads, config.head_dim);
  }

  void AddBlock(LinearLoader& loader, const DecoderLayerTensors& tensors,
                DecoderBlock& block) const {
    loader.Add(&block.qkv,
               Reader(tensors.attn_norm, {{.weight = tensors.q, .order = query_order_},
                                          {.weight = tensors.k, .order = key_order_},
                                          {.weight = tensors.v, .hadamard = head_hadamard_}}));
    loader.Add(&block.attention_out, Writer(tensors.o, head_hadamard_));
    loader.Add(&block.gate_up,
               Reader(tensors.ffn_norm, {{.weight = tensors.gate}, {.weight = tensors.up}}));
    loader.Add(&block.down, Writer(tensors.down, /*input_hadamard=*/0));
  }

  void AddHead(LinearLoader& loader, const DecoderTensors& tensors, Linear& head) const {
    loader.Add(&head, Reader(tensors.final_norm, {{.weight = tensors.output}}));
  }

 private:
  // A layer that reads the normalised residual stream.
  LinearTensors Reader(const TensorView* norm, std::vector<LinearRows> rows) const {
    return {.rows = std::move(rows),
            .norm = norm,
            .norm_epsilon = norm_epsilon_,
            .input_rotation = rotation_};
  }

  // A layer that writes to the residual stream.
  LinearTensors Writer(const TensorView* weight, int64_t input_hadamard) const {
    return {.rows = {{.weight = weight}},
            .input_hadamard = input_hadamard,
            .output_rotation = rotation_};
  }

  const double norm_epsilon_;
  const int64_t head_hadamard_;
  const Rotation* const rotation_;
  // Where the file has the rows of q and k; empty when it has them half-split.
  std::vector<int64_t> query_order_;
  std::vector<int64_t> key_order_;
};

}  // namespace

DecoderWeights::DecoderWeights(const DecoderConfig& config, std::unique_ptr<TensorSource> source,
                               DecoderTensors tensors, const LinearForm& form)
    : blocks(config.layers), source_(std::move(source)), tensors_(std::move(tensors)), form_(form) {
  if (form.rotated) rotation_.emplace(config.hidden);
  // Blocks are not rotated, but their keys are rounded to int8 all the same.
  if (form.rotated || !form.is_f32()) qk_hadamard_ = HeadHadamard(config);
}

absl::StatusOr<std::unique_ptr<const DecoderWeights>> DecoderWeights::Load(
    const DecoderConfig& config, std::unique_ptr<TensorSource> source, DecoderTensors tensors,
    const LinearForm& form, std::span<const LinearLoader::Task> others) {
  std::unique_ptr<DecoderWeights> weights(
      new DecoderWeights(config, std::move(source), std::move(tensors), form));
  const DecoderTensors& found = weights->tensors_;
  const DecoderPlan plan(config, found, form.rotated ? &*weights->rotation_ : nullptr);
  LinearLoader loader(form, *weights->source_);
  for (size_t i = 0; i < weights->blocks.size(); ++i) {
    plan.AddBlock(loader, found.layers[i], weights->blocks[i]);
  }
  plan.AddHead(loader, found, weights->head);
  LECTERN_RETURN_IF_ERROR(loader.Run(others));
  return std::unique_ptr<const DecoderWeights>(std::move(weights));
}

uint64_t DecoderWeights::bytes() const {
  uint64_t bytes = head.bytes();
  for (const DecoderBlock& block : blocks) {
    for (const Linear* layer : {&block.qkv, &block.attention_out, &block.gate_up, &block.down}) {
      bytes += layer->bytes();
    }
  }
  return bytes;
}

absl::Status DecoderWeights::Embed(std::span<const int32_t> tokens, float* x) const {
  const TensorView& table = *tensors_.token_embedding;
  std::vector<float> scratch(form_.rotated ? table.cols() : 0);
  for (const int32_t token : tokens) {
    LECTERN_RETURN_IF_ERROR(Dequantize(table, token, 1, x));
    if (form_.rotated) rotation_->ApplyToRows(x, 1, scratch.data());
    x += table.cols();
  }
  return absl::OkStatus();
}

bool AreInBlocks(const DecoderTensors& tensors) {
  const auto fits = [](std::initializer_list<const TensorView*> stack) {
    return CheckBlockTensors({stack.begin(), stack.size()}).ok();
  };
  for (const DecoderLayerTensors& layer : tensors.layers) {
    if (!fits({layer.q, layer.k, layer.v}) || !fits({layer.o}) || !fits({layer.gate, layer.up}) ||
        !fits({layer.down})) {
      return false;
    }
  }
  return fits({tensors.output});
}

}  // namespace lectern
