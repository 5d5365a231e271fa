// Rotation changes nothing but the numbers inside: the rotated matrices, multiplied in fp32, give
// the golden logits of the unrotated model.
#include "server/model/llama/rotated_matrices.h"

#include <gtest/gtest.h>

#include "server/formats/gguf.h"
#include "server/model/llama/forward_pass.h"
#include "server/model/loading/model_loader.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

// Rotated, but not quantised.
class RotatedF32Weights : public LlamaWeights {
 public:
  explicit RotatedF32Weights(const LlamaReader& reader) : reader_(reader), rotated_(reader) {
    numerics_.qk_hadamard = rotated_.qk_hadamard();
    numerics_.down_hadamard = rotated_.down_hadamard();
  }

  const LlamaNumerics& numerics() const override { return numerics_; }
  uint64_t bytes() const override { return 0; }

  absl::Status Embed(std::span<const int32_t> tokens, float* x) const override {
    std::vector<float> scratch(reader_.config().hidden);
    for (const int32_t token : tokens) {
      const absl::Status status = rotated_.ReadEmbedding(token, x, scratch.data());
      if (!status.ok()) return status;
      x += reader_.config().hidden;
    }
    return absl::OkStatus();
  }

  absl::Status Multiply(Matrix matrix, const Call& call, const float* x, float* y,
                        bool accumulate) const override {
    const MatrixShape shape = reader_.ShapeOf(matrix);
    std::vector<float> w(shape.rows * shape.cols);
    AlignedBuffer<float> scratch;
    const absl::Status status = rotated_.Read(matrix, call.layer, w.data(), scratch);
    Product(w, shape, x, call.rows, y, accumulate);
    return status;
  }

  absl::Status Head(const Call& call, const float* x, float* logits) const override {
    const MatrixShape shape = {reader_.config().vocab, reader_.config().hidden};
    std::vector<float> w(shape.rows * shape.cols);
    AlignedBuffer<float> scratch;
    const absl::Status status = rotated_.ReadHead(0, shape.rows, w.data(), scratch);
    Product(w, shape, x, call.rows, logits, /*accumulate=*/false);
    return status;
  }

  const float* AttentionNorm(int) const override { return nullptr; }
  const float* FfnNorm(int) const override { return nullptr; }
  const float* FinalNorm() const override { return nullptr; }

 private:
  static void Product(const std::vector<float>& w, MatrixShape shape, const float* x, int64_t rows,
                      float* y, bool accumulate) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t out = 0; out < shape.rows; ++out) {
        double sum = accumulate ? y[row * shape.rows + out] : 0.0;
        for (int64_t in = 0; in < shape.cols; ++in) {
          sum += static_cast<double>(x[row * shape.cols + in]) * w[out * shape.cols + in];
        }
        y[row * shape.rows + out] = static_cast<float>(sum);
      }
    }
  }

  const LlamaReader& reader_;
  const RotatedMatrices rotated_;
  LlamaNumerics numerics_;
};

// Logits [batch, tokens, vocabulary] of the golden inputs.
std::vector<float> RotatedLogits(const LlamaReader& reader, const GoldenTensor& ids) {
  const LlamaConfig& config = reader.config();
  const RotatedF32Weights weights(reader);
  const kernels::RopeTable rope(static_cast<int>(config.head_dim), config.rope_theta,
                                config.context_length);
  const kernels::KvPageLayout layout = {.type = kernels::KvType::kF32,
                                        .num_layers = static_cast<int>(config.layers),
                                        .num_kv_heads = static_cast<int>(config.kv_heads),
                                        .head_dim = static_cast<int>(config.head_dim),
                                        .value_dim = static_cast<int>(config.head_dim)};
  const AttentionPolicy policy = AttentionPolicy::Exact();
  const int64_t tokens = ids.shape.at(1);
  std::vector<float> logits(ids.size() * config.vocab);
  std::vector<AlignedBuffer<std::byte>> memory;
  std::vector<std::byte*> pages;
  for (int64_t p = 0; p < kernels::KvPageLayout::PagesFor(tokens); ++p) {
    memory.emplace_back(layout.PageBytes());
    pages.push_back(memory.back().data());
  }
  const auto workspace = NewLlamaWorkspace();
  for (int64_t row = 0; row < ids.shape.at(0); ++row) {
    ForwardSlice slice;
    slice.tokens = {ids.i32.data() + row * tokens, static_cast<size_t>(tokens)};
    slice.pages = pages;
    slice.policy = &policy;
    slice.all_logits = logits.data() + row * tokens * config.vocab;
    const absl::Status status =
        RunLlamaForward({config, weights, rope, layout, {}}, {&slice, 1}, *workspace, nullptr);
    EXPECT_TRUE(status.ok()) << status;
  }
  return logits;
}

TEST(RotatedMatricesTest, IsTheSameFunction) {
  int checked = 0;
  for (const GoldenCase& c : GoldenCases("llama_tiny")) {
    if (!c.params.contains("model_file")) continue;
    SCOPED_TRACE(c.name);
    auto file = GgufFile::Open(c.folder / c.params.at("model_file").get<std::string>());
    ASSERT_TRUE(file.ok()) << file.status();
    auto config = ReadLlamaConfig(**file);
    ASSERT_TRUE(config.ok()) << config.status();
    auto reader = LlamaReader::Open(*config, *std::move(file), LlamaNaming::kGguf);
    ASSERT_TRUE(reader.ok()) << reader.status();
    const GoldenTensors data = c.Load();
    EXPECT_EQ(CompareValues(RotatedLogits(**reader, data["input_ids"]), data["logits"].f64,
                            c.ToleranceOf("logits")),
              "");
    ++checked;
  }
  LECTERN_REQUIRE_FILE(checked > 0, "golden family llama_tiny");
}

}  // namespace
}  // namespace lectern::test
