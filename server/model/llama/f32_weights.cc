#include "server/model/llama/f32_weights.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/parallel_for.h"

namespace lectern {
namespace {

// Rows of the embedding table and of the head that are read in one piece.
constexpr int64_t kBlockRows = 1024;

struct Layer {
  at::Tensor qkv, attention_out, gate_up, down;  // [out, in]
  at::Tensor attention_norm, ffn_norm;           // [hidden]
};

// LibTorch reports errors by exceptions; none may leave this file.
absl::Status Guarded(const char* what, const std::function<absl::Status()>& work) {
  try {
    const c10::InferenceMode inference;
    return work();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": out of memory"));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(what, ": ", error.what()));
  }
}

class F32Weights : public LlamaWeights {
 public:
  explicit F32Weights(const LlamaConfig& config) : config_(config) {}

  absl::Status Load(const LlamaReader& reader, int threads) {
    const LlamaTensors& tensors = reader.tensors();
    const bool tied = tensors.output == tensors.token_embedding;
    Allocate(reader, tied);
    // One task per layer, then blocks of the two tables.
    const int64_t blocks = (config_.vocab + kBlockRows - 1) / kBlockRows;
    const int64_t tables = tied ? 1 : 2;
    LECTERN_RETURN_IF_ERROR(reader.ReadNorm(*tensors.final_norm, final_norm_.data_ptr<float>()));
    return ParallelFor(config_.layers + tables * blocks, threads, [&](int64_t task) {
      if (task < config_.layers) return LoadLayer(reader, static_cast<int>(task));
      const int64_t block = (task - config_.layers) % blocks;
      const bool head = task - config_.layers >= blocks;
      const int64_t first = block * kBlockRows;
      const int64_t rows = std::min(kBlockRows, config_.vocab - first);
      const at::Tensor& table = head ? head_ : embedding_;
      return reader.ReadTable(head ? *tensors.output : *tensors.token_embedding, first, rows,
                              table.data_ptr<float>() + first * config_.hidden);
    });
  }

  const LlamaNumerics& numerics() const override { return numerics_; }
  uint64_t bytes() const override { return bytes_; }

  absl::Status Embed(std::span<const int32_t> tokens, float* x) const override {
    const float* table = embedding_.data_ptr<float>();
    for (const int32_t token : tokens) {
      x = std::copy_n(table + token * config_.hidden, config_.hidden, x);
    }
    return absl::OkStatus();
  }

  absl::Status Multiply(Matrix matrix, int layer, const float* x, int64_t rows, float* y,
                        bool accumulate) const override {
    return Product(MatrixOf(layers_[layer], matrix), x, rows, y, accumulate);
  }

  absl::Status Head(const float* x, int64_t rows, float* logits) const override {
    return Product(head_, x, rows, logits, /*accumulate=*/false);
  }

  const float* AttentionNorm(int layer) const override {
    return layers_[layer].attention_norm.data_ptr<float>();
  }
  const float* FfnNorm(int layer) const override {
    return layers_[layer].ffn_norm.data_ptr<float>();
  }
  const float* FinalNorm() const override { return final_norm_.data_ptr<float>(); }

 private:
  static const at::Tensor& MatrixOf(const Layer& layer, Matrix matrix) {
    switch (matrix) {
      case Matrix::kQkv:
        return layer.qkv;
      case Matrix::kAttentionOut:
        return layer.attention_out;
      case Matrix::kGateUp:
        return layer.gate_up;
      case Matrix::kDown:
        break;
    }
    return layer.down;
  }

  at::Tensor New(at::IntArrayRef shape) {
    at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(at::kFloat));
    bytes_ += tensor.nbytes();
    return tensor;
  }

  void Allocate(const LlamaReader& reader, bool tied) {
    const auto matrix = [&](Matrix which) {
      const MatrixShape shape = reader.ShapeOf(which);
      return New({shape.rows, shape.cols});
    };
    embedding_ = New({config_.vocab, config_.hidden});
    head_ = tied ? embedding_ : New({config_.vocab, config_.hidden});
    final_norm_ = New({config_.hidden});
    for (int i = 0; i < config_.layers; ++i) {
      layers_.push_back({matrix(Matrix::kQkv), matrix(Matrix::kAttentionOut),
                         matrix(Matrix::kGateUp), matrix(Matrix::kDown), New({config_.hidden}),
                         New({config_.hidden})});
    }
  }

  absl::Status LoadLayer(const LlamaReader& reader, int index) const {
    const Layer& layer = layers_[index];
    for (const Matrix matrix :
         {Matrix::kQkv, Matrix::kAttentionOut, Matrix::kGateUp, Matrix::kDown}) {
      LECTERN_RETURN_IF_ERROR(
          reader.ReadMatrix(matrix, index, MatrixOf(layer, matrix).data_ptr<float>()));
    }
    const LlamaLayerTensors& tensors = reader.tensors().layers[index];
    LECTERN_RETURN_IF_ERROR(
        reader.ReadNorm(*tensors.attn_norm, layer.attention_norm.data_ptr<float>()));
    return reader.ReadNorm(*tensors.ffn_norm, layer.ffn_norm.data_ptr<float>());
  }

  static absl::Status Product(const at::Tensor& weight, const float* x, int64_t rows, float* y,
                              bool accumulate) {
    return Guarded("matrix product", [&] {
      const at::TensorOptions options = weight.options();
      // ATen takes no const memory; the input is only read.
      const at::Tensor input =
          at::from_blob(const_cast<float*>(x), {rows, weight.size(1)}, options);
      at::Tensor output = at::from_blob(y, {rows, weight.size(0)}, options);
      if (accumulate) {
        at::addmm_out(output, output, input, weight.t());
      } else {
        at::mm_out(output, input, weight.t());
      }
      return absl::OkStatus();
    });
  }

  const LlamaConfig config_;
  const LlamaNumerics numerics_ = {.name = "f32", .kv_name = "f32"};
  uint64_t bytes_ = 0;
  at::Tensor embedding_;  // [vocabulary, hidden]
  at::Tensor head_;       // [vocabulary, hidden]; the same memory when tied
  at::Tensor final_norm_;
  std::vector<Layer> layers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaF32Weights(const LlamaReader& reader,
                                                                  int threads) {
  std::unique_ptr<F32Weights> weights;
  LECTERN_RETURN_IF_ERROR(Guarded("loading weights", [&] {
    at::set_num_threads(threads);
    weights = std::make_unique<F32Weights>(reader.config());
    return weights->Load(reader, threads);
  }));
  return std::unique_ptr<LlamaWeights>(std::move(weights));
}

}  // namespace lectern
