#include "server/model/llama/f32_weights.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "server/model/f32_product/f32_product.h"
#include "server/model/f32_product/row_product.h"
#include "server/model/parallel_for.h"

namespace lectern {
namespace {

// Rows of the embedding table and of the head that are read in one piece.
constexpr int64_t kBlockRows = 1024;
constexpr int kMatricesPerLayer = 4;

struct Layer {
  std::array<AlignedBuffer<float>, kMatricesPerLayer> matrices;  // by Matrix, [out, in]
  AlignedBuffer<float> attention_norm, ffn_norm;                 // [hidden]
};

class F32Weights : public LlamaWeights {
 public:
  F32Weights(const LlamaReader& reader, F32ProductFunction* product, int threads)
      : config_(reader.config()), product_(product), threads_(threads) {
    for (int m = 0; m < kMatricesPerLayer; ++m) {
      shapes_[m] = reader.ShapeOf(static_cast<Matrix>(m));
    }
  }

  absl::Status Load(const LlamaReader& reader) {
    const LlamaTensors& tensors = reader.tensors();
    const bool tied = tensors.output == tensors.token_embedding;
    Allocate(tied);
    // One task per layer, then blocks of the two tables.
    const int64_t blocks = (config_.vocab + kBlockRows - 1) / kBlockRows;
    const int64_t tables = tied ? 1 : 2;
    LECTERN_RETURN_IF_ERROR(reader.ReadNorm(*tensors.final_norm, final_norm_.data()));
    return ParallelFor(config_.layers + tables * blocks, threads_, [&](int64_t task) {
      if (task < config_.layers) return LoadLayer(reader, static_cast<int>(task));
      const int64_t block = (task - config_.layers) % blocks;
      const bool head = task - config_.layers >= blocks;
      const int64_t first = block * kBlockRows;
      const int64_t rows = std::min(kBlockRows, config_.vocab - first);
      float* table = (head ? head_ : embedding_).data();
      return reader.ReadTable(head ? *tensors.output : *tensors.token_embedding, first, rows,
                              table + first * config_.hidden);
    });
  }

  const LlamaNumerics& numerics() const override { return numerics_; }
  uint64_t bytes() const override { return bytes_; }

  absl::Status Embed(std::span<const int32_t> tokens, float* x) const override {
    const float* table = embedding_.data();
    for (const int32_t token : tokens) {
      x = std::copy_n(table + token * config_.hidden, config_.hidden, x);
    }
    return absl::OkStatus();
  }

  absl::Status Multiply(Matrix matrix, const Call& call, const float* x, float* y,
                        bool accumulate) const override {
    const int which = static_cast<int>(matrix);
    const float* weight = layers_[call.layer].matrices[which].data();
    return Product(weight, shapes_[which], x, call.rows, y, accumulate);
  }

  absl::Status Head(const Call& call, const float* x, float* logits) const override {
    const float* head = tied_ ? embedding_.data() : head_.data();
    return Product(head, {config_.vocab, config_.hidden}, x, call.rows, logits,
                   /*accumulate=*/false);
  }

  const float* AttentionNorm(int layer) const override {
    return layers_[layer].attention_norm.data();
  }
  const float* FfnNorm(int layer) const override { return layers_[layer].ffn_norm.data(); }
  const float* FinalNorm() const override { return final_norm_.data(); }

 private:
  void Reserve(AlignedBuffer<float>& buffer, int64_t count) {
    buffer.Reserve(count);
    bytes_ += count * sizeof(float);
  }

  void Allocate(bool tied) {
    tied_ = tied;
    Reserve(embedding_, config_.vocab * config_.hidden);
    if (!tied) Reserve(head_, config_.vocab * config_.hidden);
    Reserve(final_norm_, config_.hidden);
    layers_.resize(config_.layers);
    for (Layer& layer : layers_) {
      for (int m = 0; m < kMatricesPerLayer; ++m) {
        Reserve(layer.matrices[m], shapes_[m].rows * shapes_[m].cols);
      }
      Reserve(layer.attention_norm, config_.hidden);
      Reserve(layer.ffn_norm, config_.hidden);
    }
  }

  absl::Status LoadLayer(const LlamaReader& reader, int index) {
    Layer& layer = layers_[index];
    for (int m = 0; m < kMatricesPerLayer; ++m) {
      LECTERN_RETURN_IF_ERROR(
          reader.ReadMatrix(static_cast<Matrix>(m), index, layer.matrices[m].data()));
    }
    const LlamaLayerTensors& tensors = reader.tensors().layers[index];
    LECTERN_RETURN_IF_ERROR(reader.ReadNorm(*tensors.attn_norm, layer.attention_norm.data()));
    return reader.ReadNorm(*tensors.ffn_norm, layer.ffn_norm.data());
  }

  absl::Status Product(const float* weight, MatrixShape shape, const float* x, int64_t rows,
                       float* y, bool accumulate) const {
    return MultiplyRows(product_, threads_, x, rows, shape.cols, weight, shape.rows, y, accumulate);
  }

  const LlamaConfig config_;
  F32ProductFunction* const product_;
  const int threads_;
  const LlamaNumerics numerics_ = {.name = "f32", .kv_name = "f32"};
  std::array<MatrixShape, kMatricesPerLayer> shapes_;  // by Matrix
  uint64_t bytes_ = 0;
  bool tied_ = false;               // the head is the embedding table
  AlignedBuffer<float> embedding_;  // [vocabulary, hidden]
  AlignedBuffer<float> head_;       // [vocabulary, hidden], unless tied
  AlignedBuffer<float> final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaF32Weights(const LlamaReader& reader,
                                                                  int threads) {
  LECTERN_ASSIGN_OR_RETURN(F32ProductFunction* const product, LoadF32Product());
  auto weights = std::make_unique<F32Weights>(reader, product, threads);
  LECTERN_RETURN_IF_ERROR(weights->Load(reader));
  return std::unique_ptr<LlamaWeights>(std::move(weights));
}

}  // namespace lectern
