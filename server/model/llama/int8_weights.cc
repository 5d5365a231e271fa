#include "server/model/llama/int8_weights.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/linear/int8_linear.h"
#include "server/model/kernel_status.h"
#include "server/model/llama/rotated_matrices.h"
#include "server/model/parallel_for.h"

namespace lectern {
namespace {

using Matrix = LlamaWeights::Matrix;

constexpr int kMatricesPerLayer = 4;
// Rows of the head that are packed in one piece; a multiple of 64, as PackInt8Rows asks.
constexpr int64_t kHeadBlockRows = 512;

constexpr size_t CacheLines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// One packed matrix, in memory of its owner.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(int64_t n, int64_t k, int8_t* packed)
      : n_(n),
        k_(k),
        packed_(packed),
        scale_(kernels::PaddedChannels(n)),
        row_sum_(kernels::PaddedChannels(n)) {}

  absl::Status Pack(const float* w, int64_t first_row, int64_t rows) {
    return FromKernel(
        kernels::PackInt8Rows(w, first_row, rows, n_, k_, packed_, scale_.data(), row_sum_.data()),
        "pack_int8");
  }

  absl::Status Upload(Int8Device& device) {
    LECTERN_ASSIGN_OR_RETURN(on_device_, device.Upload(view()));
    return absl::OkStatus();
  }

  absl::Status Multiply(const kernels::LinearInput& input, float* y, bool accumulate,
                        const kernels::ExecutionContext& execution) const {
    return on_device_.Multiply(input, view(), y, n_, accumulate, execution);
  }

  kernels::Int8Matrix view() const { return {n_, k_, packed_, scale_.data(), row_sum_.data()}; }
  uint64_t scale_bytes() const { return 8 * scale_.capacity(); }

 private:
  int64_t n_ = 0;
  int64_t k_ = 0;
  int8_t* packed_ = nullptr;
  AlignedBuffer<float> scale_;
  AlignedBuffer<int32_t> row_sum_;
  DeviceMatrix on_device_;
};

class Int8Weights : public LlamaWeights {
 public:
  explicit Int8Weights(std::shared_ptr<const LlamaReader> reader)
      : reader_(std::move(reader)), config_(reader_->config()), rotated_(*reader_) {
    numerics_ = {.name = "int8-rotated",
                 .kv_name = "int8",
                 .kv_type = kernels::KvType::kI8,
                 .qk_hadamard = rotated_.qk_hadamard(),
                 .down_hadamard = rotated_.down_hadamard(),
                 .fuses_inputs = true};
  }

  absl::Status Load(int threads, Int8Device* device) {
    LayOut();
    const int64_t matrices = config_.layers * kMatricesPerLayer;
    const int64_t head_blocks = (config_.vocab + kHeadBlockRows - 1) / kHeadBlockRows;
    LECTERN_RETURN_IF_ERROR(ParallelFor(matrices + head_blocks, threads, [&](int64_t task) {
      return task < matrices ? PackLayer(task) : PackHead(task - matrices);
    }));
    return device == nullptr ? absl::OkStatus() : Upload(*device);
  }

  const LlamaNumerics& numerics() const override { return numerics_; }

  uint64_t bytes() const override {
    uint64_t bytes = packed_.capacity() + head_.scale_bytes();
    for (const auto& layer : layers_) {
      for (const PackedMatrix& matrix : layer) bytes += matrix.scale_bytes();
    }
    return bytes;
  }

  absl::Status Embed(std::span<const int32_t> tokens, float* x) const override {
    AlignedBuffer<float> scratch(config_.hidden);
    for (const int32_t token : tokens) {
      LECTERN_RETURN_IF_ERROR(rotated_.ReadEmbedding(token, x, scratch.data()));
      x += config_.hidden;
    }
    return absl::OkStatus();
  }

  absl::Status Multiply(Matrix matrix, const Call& call, const float* x, float* y,
                        bool accumulate) const override {
    const PackedMatrix& weight = MatrixOf(matrix, call);
    const kernels::LinearInput input{.x = x, .m = call.rows, .stride = weight.view().k};
    return weight.Multiply(input, y, accumulate, call.execution);
  }

  absl::Status MultiplyNormed(Matrix matrix, const Call& call, const float* x,
                              float* y) const override {
    const kernels::LinearInput input{.x = x,
                                     .m = call.rows,
                                     .stride = config_.hidden,
                                     .step = kernels::LinearInput::Step::kRmsNorm,
                                     .rms_eps = static_cast<float>(config_.rms_eps)};
    return MatrixOf(matrix, call).Multiply(input, y, /*accumulate=*/false, call.execution);
  }

  absl::Status MultiplySwiGlu(const Call& call, const float* gate_up, float* y,
                              bool accumulate) const override {
    const kernels::LinearInput input{.x = gate_up,
                                     .m = call.rows,
                                     .stride = 2 * config_.intermediate,
                                     .step = kernels::LinearInput::Step::kSwiGlu,
                                     .hadamard = std::max<int64_t>(1, numerics_.down_hadamard)};
    return MatrixOf(Matrix::kDown, call).Multiply(input, y, accumulate, call.execution);
  }

  absl::Status Head(const Call& call, const float* x, float* logits) const override {
    return head_.Multiply({.x = x, .m = call.rows, .stride = config_.hidden}, logits,
                          /*accumulate=*/false, call.execution);
  }

  const float* AttentionNorm(int) const override { return nullptr; }
  const float* FfnNorm(int) const override { return nullptr; }
  const float* FinalNorm() const override { return nullptr; }

 private:
  const PackedMatrix& MatrixOf(Matrix matrix, const Call& call) const {
    return layers_[call.layer][static_cast<int>(matrix)];
  }

  // All packed matrices lie in one piece of memory, in the order in which a token needs them.
  void LayOut() {
    size_t layer_bytes = 0;
    for (int m = 0; m < kMatricesPerLayer; ++m) {
      const MatrixShape shape = reader_->ShapeOf(static_cast<Matrix>(m));
      layer_bytes += CacheLines(kernels::PackedInt8Bytes(shape.rows, shape.cols));
    }
    const size_t head_bytes = kernels::PackedInt8Bytes(config_.vocab, config_.hidden);
    int8_t* at = packed_.Reserve(config_.layers * layer_bytes + CacheLines(head_bytes));
    layers_.resize(config_.layers);
    for (auto& layer : layers_) {
      for (int m = 0; m < kMatricesPerLayer; ++m) {
        const MatrixShape shape = reader_->ShapeOf(static_cast<Matrix>(m));
        layer[m] = PackedMatrix(shape.rows, shape.cols, at);
        at += CacheLines(kernels::PackedInt8Bytes(shape.rows, shape.cols));
      }
    }
    head_ = PackedMatrix(config_.vocab, config_.hidden, at);
  }

  absl::Status Upload(Int8Device& device) {
    for (auto& layer : layers_) {
      for (PackedMatrix& matrix : layer) LECTERN_RETURN_IF_ERROR(matrix.Upload(device));
    }
    return head_.Upload(device);
  }

  absl::Status PackLayer(int64_t task) {
    const int layer = static_cast<int>(task / kMatricesPerLayer);
    const auto matrix = static_cast<Matrix>(task % kMatricesPerLayer);
    const MatrixShape shape = reader_->ShapeOf(matrix);
    AlignedBuffer<float> values(shape.rows * shape.cols);
    AlignedBuffer<float> scratch;
    LECTERN_RETURN_IF_ERROR(rotated_.Read(matrix, layer, values.data(), scratch));
    return layers_[layer][static_cast<int>(matrix)].Pack(values.data(), 0, shape.rows);
  }

  absl::Status PackHead(int64_t block) {
    const int64_t first = block * kHeadBlockRows;
    const int64_t rows = std::min(kHeadBlockRows, config_.vocab - first);
    AlignedBuffer<float> values(rows * config_.hidden);
    AlignedBuffer<float> scratch;
    LECTERN_RETURN_IF_ERROR(rotated_.ReadHead(first, rows, values.data(), scratch));
    return head_.Pack(values.data(), first, rows);
  }

  const std::shared_ptr<const LlamaReader> reader_;
  const LlamaConfig& config_;
  const RotatedMatrices rotated_;
  LlamaNumerics numerics_;
  AlignedBuffer<int8_t> packed_;
  PackedMatrix head_;
  std::vector<std::array<PackedMatrix, kMatricesPerLayer>> layers_;  // by Matrix
};

}  // namespace

absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaInt8Weights(
    std::shared_ptr<const LlamaReader> reader, int threads, Int8Device* device) {
  auto weights = std::make_unique<Int8Weights>(std::move(reader));
  LECTERN_RETURN_IF_ERROR(weights->Load(threads, device));
  return std::unique_ptr<LlamaWeights>(std::move(weights));
}

}  // namespace lectern
