#include "server/model/llama/block_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/linear/q4q8_linear.h"
#include "server/formats/file_error.h"
#include "server/model/kernel_status.h"
#include "server/model/llama/rotation.h"
#include "server/model/parallel_for.h"

namespace lectern {
namespace {

using Matrix = LlamaWeights::Matrix;

constexpr int kMatricesPerLayer = 4;
// Rows of the head that are packed in one piece; a multiple of 64, as PackBlockChannel asks.
constexpr int64_t kHeadPieceRows = 512;

constexpr size_t CacheLines(size_t bytes) { return (bytes + 63) / 64 * 64; }

absl::Status CheckStack(const std::vector<const TensorView*>& tensors) {
  for (const TensorView* tensor : tensors) {
    const int bits = BlockCodeBits(tensor->type);
    if (bits != 0 && bits == BlockCodeBits(tensors[0]->type)) continue;
    return absl::UnimplementedError(
        absl::StrCat("numerics blocks: tensor '", Printable(tensor->name), "' is ",
                     std::string(ToString(tensor->type)),
                     bits == 0 ? "; Q4_0, Q4_1 and Q8_0 can stay in the blocks of the file"
                               : ", of other bits than the tensors it is multiplied with"));
  }
  return absl::OkStatus();
}

class BlockWeights : public LlamaWeights {
 public:
  explicit BlockWeights(std::shared_ptr<const LlamaReader> reader)
      : reader_(std::move(reader)), config_(reader_->config()) {
    const bool mixes = PowerOfTwoFactor(config_.head_dim) == config_.head_dim;
    numerics_ = {.name = "blocks",
                 .kv_name = "int8",
                 .kv_type = kernels::KvType::kI8,
                 .qk_hadamard = mixes && config_.head_dim > 1 ? config_.head_dim : 0,
                 .fuses_inputs = true};
  }

  absl::Status Load(int threads) {
    LECTERN_RETURN_IF_ERROR(ReadNorms());
    LayOut();
    const int64_t matrices = config_.layers * kMatricesPerLayer;
    const int64_t head_pieces = (config_.vocab + kHeadPieceRows - 1) / kHeadPieceRows;
    return ParallelFor(matrices + head_pieces, threads, [&](int64_t task) {
      return task < matrices ? PackLayer(task) : PackHead(task - matrices);
    });
  }

  const LlamaNumerics& numerics() const override { return numerics_; }
  uint64_t bytes() const override { return packed_.capacity() + 4 * gains_.size(); }

  absl::Status Embed(std::span<const int32_t> tokens, float* x) const override {
    for (const int32_t token : tokens) {
      LECTERN_RETURN_IF_ERROR(Dequantize(*reader_->tensors().token_embedding, token, 1, x));
      x += config_.hidden;
    }
    return absl::OkStatus();
  }

  absl::Status Multiply(Matrix matrix, const Call& call, const float* x, float* y,
                        bool accumulate) const override {
    const kernels::BlockMatrix& w = MatrixOf(matrix, call);
    return Product(w, {.x = x, .m = call.rows, .stride = w.k}, y, accumulate, call.execution);
  }

  absl::Status MultiplyNormed(Matrix matrix, const Call& call, const float* x,
                              float* y) const override {
    const kernels::LinearInput input{
        .x = x,
        .m = call.rows,
        .stride = config_.hidden,
        .step = kernels::LinearInput::Step::kRmsNorm,
        .rms_eps = static_cast<float>(config_.rms_eps),
        .rms_gain = matrix == Matrix::kQkv ? AttentionNorm(call.layer) : FfnNorm(call.layer)};
    return Product(MatrixOf(matrix, call), input, y, /*accumulate=*/false, call.execution);
  }

  absl::Status MultiplySwiGlu(const Call& call, const float* gate_up, float* y,
                              bool accumulate) const override {
    const kernels::LinearInput input{.x = gate_up,
                                     .m = call.rows,
                                     .stride = 2 * config_.intermediate,
                                     .step = kernels::LinearInput::Step::kSwiGlu};
    return Product(MatrixOf(Matrix::kDown, call), input, y, accumulate, call.execution);
  }

  absl::Status Head(const Call& call, const float* x, float* logits) const override {
    return Product(head_, {.x = x, .m = call.rows, .stride = config_.hidden}, logits,
                   /*accumulate=*/false, call.execution);
  }

  const float* AttentionNorm(int layer) const override { return Gain(2 * layer); }
  const float* FfnNorm(int layer) const override { return Gain(2 * layer + 1); }
  const float* FinalNorm() const override { return Gain(2 * config_.layers); }

 private:
  const float* Gain(int64_t norm) const { return gains_.data() + norm * config_.hidden; }

  const kernels::BlockMatrix& MatrixOf(Matrix matrix, const Call& call) const {
    return layers_[call.layer][static_cast<int>(matrix)];
  }

  absl::Status ReadNorms() {
    gains_.resize((2 * config_.layers + 1) * config_.hidden);
    float* gain = gains_.data();
    for (const LlamaLayerTensors& layer : reader_->tensors().layers) {
      for (const TensorView* norm : {layer.attn_norm, layer.ffn_norm}) {
        LECTERN_RETURN_IF_ERROR(reader_->ReadNorm(*norm, gain));
        gain += config_.hidden;
      }
    }
    return reader_->ReadNorm(*reader_->tensors().final_norm, gain);
  }

  // All packed matrices lie in one piece of memory, in the order in which a token needs them. Sets
  // their shapes, and then, once the memory is there, where they are.
  void LayOut() {
    layers_.resize(config_.layers);
    size_t bytes = 0;
    const auto place = [&](kernels::BlockMatrix& matrix) {
      if (packed_.data() != nullptr) matrix.packed = packed_.data() + bytes;
      bytes += CacheLines(kernels::PackedBlockBytes(matrix.n, matrix.k, matrix.bits));
    };
    const auto place_all = [&] {
      bytes = 0;
      for (auto& layer : layers_) std::for_each(layer.begin(), layer.end(), place);
      place(head_);
    };
    for (int layer = 0; layer < config_.layers; ++layer) {
      for (int m = 0; m < kMatricesPerLayer; ++m) {
        const auto matrix = static_cast<Matrix>(m);
        const MatrixShape shape = reader_->ShapeOf(matrix);
        const int bits = BlockCodeBits(reader_->TensorsOf(matrix, layer)[0]->type);
        layers_[layer][m] = {shape.rows, shape.cols, bits};
      }
    }
    head_ = {config_.vocab, config_.hidden, BlockCodeBits(reader_->tensors().output->type)};
    place_all();
    packed_.Reserve(bytes);
    place_all();
  }

  // Packs channels [first, first + rows), a whole number of groups of 64 unless the last.
  template <typename RowOf>
  absl::Status Pack(const kernels::BlockMatrix& matrix, int64_t first, int64_t rows,
                    const RowOf& row_of) {
    auto* packed = const_cast<uint8_t*>(matrix.packed);  // ours, in packed_
    const size_t before = kernels::PackedBlockBytes(first, matrix.k, matrix.bits);
    const size_t after = kernels::PackedBlockBytes(first + rows, matrix.k, matrix.bits);
    std::memset(packed + before, 0, after - before);
    BlockCodes codes;
    for (int64_t row = first; row < first + rows; ++row) {
      const LlamaReader::SourceRow source = row_of(row);
      LECTERN_RETURN_IF_ERROR(ReadBlockCodes(*source.tensor, source.row, codes));
      const kernels::BlockChannel channel{codes.codes.data(), codes.scale.data(),
                                          matrix.bits == 4 ? codes.minimum.data() : nullptr};
      LECTERN_RETURN_IF_ERROR(FromKernel(
          kernels::PackBlockChannel(channel, row, matrix.n, matrix.k, matrix.bits, packed),
          "pack_block_channel"));
    }
    return absl::OkStatus();
  }

  absl::Status PackLayer(int64_t task) {
    const int layer = static_cast<int>(task / kMatricesPerLayer);
    const auto matrix = static_cast<Matrix>(task % kMatricesPerLayer);
    const kernels::BlockMatrix& w = layers_[layer][static_cast<int>(matrix)];
    LECTERN_RETURN_IF_ERROR(
        Pack(w, 0, w.n, [&](int64_t row) { return reader_->RowOf(matrix, layer, row); }));
    for (const TensorView* tensor : reader_->TensorsOf(matrix, layer)) {
      reader_->source().DontNeed(*tensor);
    }
    return absl::OkStatus();
  }

  absl::Status PackHead(int64_t piece) {
    const int64_t first = piece * kHeadPieceRows;
    const int64_t rows = std::min(kHeadPieceRows, config_.vocab - first);
    LECTERN_RETURN_IF_ERROR(Pack(head_, first, rows, [&](int64_t row) {
      return LlamaReader::SourceRow{reader_->tensors().output, row};
    }));
    reader_->DoneWithRows(*reader_->tensors().output, first, rows);
    return absl::OkStatus();
  }

  absl::Status Product(const kernels::BlockMatrix& w, const kernels::LinearInput& input, float* y,
                       bool accumulate, const kernels::ExecutionContext& execution) const {
    return FromKernel(kernels::Q4Q8Linear(input, w, y, w.n, accumulate, execution), "block_linear");
  }

  const std::shared_ptr<const LlamaReader> reader_;
  const LlamaConfig& config_;
  LlamaNumerics numerics_;
  AlignedBuffer<uint8_t> packed_;
  kernels::BlockMatrix head_;
  std::vector<std::array<kernels::BlockMatrix, kMatricesPerLayer>> layers_;  // by Matrix
  std::vector<float> gains_;  // [2 layers + 1, hidden]: attention and FFN norms, final norm
};

}  // namespace

absl::Status CheckBlockWeights(const LlamaReader& reader) {
  for (int layer = 0; layer < reader.config().layers; ++layer) {
    for (int m = 0; m < kMatricesPerLayer; ++m) {
      LECTERN_RETURN_IF_ERROR(CheckStack(reader.TensorsOf(static_cast<Matrix>(m), layer)));
    }
  }
  return CheckStack({reader.tensors().output});
}

absl::StatusOr<std::unique_ptr<LlamaWeights>> LoadLlamaBlockWeights(
    std::shared_ptr<const LlamaReader> reader, int threads) {
  LECTERN_RETURN_IF_ERROR(CheckBlockWeights(*reader));
  auto weights = std::make_unique<BlockWeights>(std::move(reader));
  LECTERN_RETURN_IF_ERROR(weights->Load(threads));
  return std::unique_ptr<LlamaWeights>(std::move(weights));
}

}  // namespace lectern
