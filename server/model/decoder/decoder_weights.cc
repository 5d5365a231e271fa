#include "server/model/decoder/decoder_weights.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "base/status_macros.h"
#include "kernels/linear/block_linear.h"
#include "kernels/linear/int8_linear.h"

namespace lectern {
namespace {

// Width of the Hadamard blocks that mix a head.
int64_t HeadHadamard(const DecoderConfig& config) {
  return std::min(PowerOfTwoFactor(config.head_dim), kMaxHadamardBlock);
}

// True if a branch is normalised before it is added to the residual stream.
bool NormsBranches(const DecoderConfig& config) {
  return std::any_of(config.layer.begin(), config.layer.end(), [](const DecoderLayer& layer) {
    return layer.attention_post_norm || layer.ffn_post_norm;
  });
}

// Added to the norm weights of the file.
float NormOffset(const DecoderConfig& config) { return config.norms_store_offset ? 1.0f : 0.0f; }

// A norm's weights; none where the layer has no such norm.
absl::Status ReadNorm(const TensorView* tensor, float offset, std::vector<float>& weight) {
  if (tensor == nullptr) return absl::OkStatus();
  weight.resize(tensor->cols());
  LECTERN_RETURN_IF_ERROR(Dequantize(*tensor, 0, 1, weight.data()));
  for (float& value : weight) value += offset;
  return absl::OkStatus();
}

// Every matrix that the model multiplies by, once.
std::set<const TensorView*> MatricesOf(const DecoderTensors& tensors) {
  std::set<const TensorView*> matrices = {tensors.output};
  for (const DecoderLayerTensors& layer : tensors.layers) {
    matrices.insert({layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down});
  }
  return matrices;
}

}  // namespace

// Names what each layer is loaded from. Outlives loading.
class DecoderPlan {
 public:
  DecoderPlan(const DecoderConfig& config, const DecoderTensors& tensors, const Rotation* rotation)
      : config_(config),
        interleaved_(tensors.qk_interleaved),
        head_hadamard_(HeadHadamard(config)),
        rotation_(rotation) {}

  void AddBlock(LinearLoader& loader, int layer, const DecoderLayerTensors& tensors,
                DecoderBlock& block) {
    const int64_t queries = config_.heads * config_.head_dim;
    const int64_t keys = config_.kv_heads * config_.head_dim;
    const int64_t units = config_.intermediate;
    loader.Add(&block.qkv,
               Reader(tensors.attn_norm, {{.weight = Part(tensors.q, tensors.q_row, queries),
                                           .bias = tensors.q_bias,
                                           .order = Order(layer, config_.heads)},
                                          {.weight = Part(tensors.k, tensors.k_row, keys),
                                           .bias = tensors.k_bias,
                                           .order = Order(layer, config_.kv_heads)},
                                          {.weight = Part(tensors.v, tensors.v_row, keys),
                                           .bias = tensors.v_bias,
                                           .hadamard = head_hadamard_}}));
    loader.Add(&block.attention_out, Writer(tensors.o, tensors.o_bias, head_hadamard_));
    loader.Add(
        &block.gate_up,
        Reader(tensors.ffn_norm,
               {{.weight = Part(tensors.gate, tensors.gate_row, units), .bias = tensors.gate_bias},
                {.weight = Part(tensors.up, tensors.up_row, units), .bias = tensors.up_bias}}));
    loader.Add(&block.down, Writer(tensors.down, tensors.down_bias, /*input_hadamard=*/0));
  }

  void AddHead(LinearLoader& loader, const DecoderTensors& tensors, Linear& head) const {
    loader.Add(&head, Reader(tensors.final_norm, {{.weight = tensors.output}}));
  }

 private:
  // Rows [first, first + count) of a tensor that may hold several matrices.
  const TensorView* Part(const TensorView* tensor, int64_t first, int64_t count) {
    if (count == tensor->rows()) return tensor;
    const size_t row_bytes = tensor->bytes.size() / static_cast<size_t>(tensor->rows());
    TensorView& part = parts_.emplace_back(*tensor);
    part.shape[0] = count;
    part.bytes = tensor->bytes.substr(first * row_bytes, count * row_bytes);
    return &part;
  }

  // Where the file has the rows of q or k, which have `heads` heads; empty when it has them in the
  // order of rope.h. A layer without RoPE scores alike in any order that q and k share.
  std::span<const int64_t> Order(int layer, int64_t heads) {
    const int rope = config_.layer[layer].rope;
    if (!interleaved_ || rope < 0) return {};
    const auto pairs = static_cast<int64_t>(config_.ropes[rope].inverse_frequencies.size());
    std::vector<int64_t>& order = orders_[{heads, pairs}];
    if (order.empty()) order = HalfSplitRows(heads, config_.head_dim, 2 * pairs);
    return order;
  }

  // A layer that reads the residual stream through a norm; null: as it is.
  LinearTensors Reader(const TensorView* norm, std::vector<LinearRows> rows) const {
    return {.rows = std::move(rows),
            .norm = norm,
            .norm_offset = NormOffset(config_),
            .norm_epsilon = config_.rms_eps,
            .input_rotation = rotation_};
  }

  // A layer that writes to the residual stream.
  LinearTensors Writer(const TensorView* weight, const TensorView* bias,
                       int64_t input_hadamard) const {
    return {.rows = {{.weight = weight, .bias = bias}},
            .input_hadamard = input_hadamard,
            .output_rotation = rotation_};
  }

  const DecoderConfig& config_;
  const bool interleaved_;
  const int64_t head_hadamard_;
  const Rotation* const rotation_;  // of the residual stream, or null
  std::deque<TensorView> parts_;
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> orders_;  // by heads and pairs
};

DecoderWeights::DecoderWeights(const DecoderConfig& config, std::unique_ptr<TensorSource> source,
                               DecoderTensors tensors, const LinearForm& form)
    : blocks(config.layers), source_(std::move(source)), tensors_(std::move(tensors)), form_(form) {
  if (form.rotated && !NormsBranches(config)) rotation_.emplace(config.hidden);
  // Blocks are not rotated, but their keys are rounded to int8 all the same.
  if (form.rotated || !form.is_f32()) qk_hadamard_ = HeadHadamard(config);
}

absl::StatusOr<std::unique_ptr<const DecoderWeights>> DecoderWeights::Load(
    const DecoderConfig& config, std::unique_ptr<TensorSource> source, DecoderTensors tensors,
    const LinearForm& form, std::span<const LinearLoader::Task> others) {
  std::unique_ptr<DecoderWeights> weights(
      new DecoderWeights(config, std::move(source), std::move(tensors), form));
  DecoderPlan plan(config, weights->tensors_, weights->rotation_ ? &*weights->rotation_ : nullptr);
  LinearLoader loader(form, *weights->source_);
  LECTERN_RETURN_IF_ERROR(weights->Prepare(config, plan, loader));
  LECTERN_RETURN_IF_ERROR(loader.Run(others));
  return std::unique_ptr<const DecoderWeights>(std::move(weights));
}

absl::StatusOr<uint64_t> DecoderWeights::Measure(const DecoderConfig& config,
                                                 std::unique_ptr<TensorSource> source,
                                                 DecoderTensors tensors, const LinearForm& form) {
  DecoderWeights weights(config, std::move(source), std::move(tensors), form);
  DecoderPlan plan(config, weights.tensors_, weights.rotation_ ? &*weights.rotation_ : nullptr);
  LinearLoader loader(form, *weights.source_);
  LECTERN_RETURN_IF_ERROR(weights.Prepare(config, plan, loader));
  LECTERN_RETURN_IF_ERROR(loader.Check());
  return weights.bytes();
}

absl::Status DecoderWeights::Prepare(const DecoderConfig& config, DecoderPlan& plan,
                                     LinearLoader& loader) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    plan.AddBlock(loader, static_cast<int>(i), tensors_.layers[i], blocks[i]);
  }
  plan.AddHead(loader, tensors_, head);
  return ReadNorms(config);
}

absl::Status DecoderWeights::ReadNorms(const DecoderConfig& config) {
  const float offset = NormOffset(config);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const DecoderLayerTensors& tensors = tensors_.layers[i];
    DecoderBlock& block = blocks[i];
    LECTERN_RETURN_IF_ERROR(ReadNorm(tensors.q_norm, offset, block.q_norm));
    LECTERN_RETURN_IF_ERROR(ReadNorm(tensors.k_norm, offset, block.k_norm));
    LECTERN_RETURN_IF_ERROR(ReadNorm(tensors.attn_post_norm, offset, block.attention_post_norm));
    LECTERN_RETURN_IF_ERROR(ReadNorm(tensors.ffn_post_norm, offset, block.ffn_post_norm));
  }
  return absl::OkStatus();
}

uint64_t DecoderWeights::bytes() const {
  uint64_t bytes = head.bytes();
  for (const DecoderBlock& block : blocks) {
    for (const Linear* layer : {&block.qkv, &block.attention_out, &block.gate_up, &block.down}) {
      bytes += layer->bytes();
    }
    for (const auto* norm :
         {&block.q_norm, &block.k_norm, &block.attention_post_norm, &block.ffn_post_norm}) {
      bytes += norm->size() * sizeof(float);
    }
  }
  return bytes;
}

absl::Status DecoderWeights::Embed(std::span<const int32_t> tokens, float factor, float* x) const {
  const TensorView& table = *tensors_.token_embedding;
  std::vector<float> scratch(rotation_ ? table.cols() : 0);
  for (const int32_t token : tokens) {
    LECTERN_RETURN_IF_ERROR(Dequantize(table, token, 1, x));
    if (factor != 1) {
      for (int64_t i = 0; i < table.cols(); ++i) x[i] *= factor;
    }
    if (rotation_) rotation_->ApplyToRows(x, 1, scratch.data());
    x += table.cols();
  }
  return absl::OkStatus();
}

bool AreInBlocks(const DecoderTensors& tensors) {
  const auto matrices = MatricesOf(tensors);
  return std::all_of(matrices.begin(), matrices.end(), [](const TensorView* matrix) {
    return BlockValues(matrix->type) > 1 && CheckBlockTensors({&matrix, 1}).ok();
  });
}

bool AreSmallerInBlocks(const DecoderTensors& tensors) {
  size_t blocks = 0, int8 = 0;
  for (const TensorView* matrix : MatricesOf(tensors)) {
    const int64_t n = matrix->rows(), k = matrix->cols();
    blocks += kernels::PackedBlockBytes(n, k, KernelForm(matrix->type));
    int8 += kernels::PackedInt8Bytes(n, k);
  }
  return blocks < int8;
}

}  // namespace lectern
