// The tiny Llama models in every format: all open, and what they hold agrees.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "server/formats/safetensors.h"
#include "server/model/decoder/decoder_tensors.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

namespace fs = std::filesystem;

struct Opened {
  std::unique_ptr<TensorSource> source;
  DecoderConfig config;
  DecoderTensors tensors;
};

absl::StatusOr<Opened> OpenAny(const fs::path& path) {
  Opened opened;
  absl::StatusOr<DecoderConfig> config;
  if (fs::is_directory(path)) {
    auto source = OpenSafetensors(path.string());
    if (!source.ok()) return source.status();
    opened.source = *std::move(source);
    std::ifstream file(path / "config.json");
    std::stringstream contents;
    contents << file.rdbuf();
    config = ReadDecoderConfigJson(contents.str(), (path / "config.json").string());
  } else {
    auto source = GgufFile::Open(path.string());
    if (!source.ok()) return source.status();
    config = ReadDecoderConfig(**source);
    opened.source = *std::move(source);
  }
  if (!config.ok()) return config.status();
  opened.config = *config;
  auto tensors = FindDecoderTensors(
      *opened.source, *config,
      fs::is_directory(path) ? DecoderNaming::kHuggingFace : DecoderNaming::kGguf);
  if (!tensors.ok()) return tensors.status();
  opened.tensors = *std::move(tensors);
  return opened;
}

std::vector<float> Values(const TensorView& view) {
  std::vector<float> values(view.rows() * view.cols());
  EXPECT_TRUE(Dequantize(view, 0, view.rows(), values.data()).ok()) << view.name;
  return values;
}

// Values of q or k with rows in half-split order, whatever the file has.
std::vector<float> HalfSplitValues(const Opened& model, const TensorView& view, int64_t heads) {
  const std::vector<float> stored = Values(view);
  if (!model.tensors.qk_interleaved) return stored;
  std::vector<float> values;
  for (const int64_t row : HalfSplitRows(heads, model.config.head_dim, model.config.head_dim)) {
    values.insert(values.end(), stored.begin() + row * view.cols(),
                  stored.begin() + (row + 1) * view.cols());
  }
  return values;
}

// Every tensor of the model, in one order for all formats.
std::vector<std::vector<float>> AllValues(const Opened& model) {
  const DecoderTensors& t = model.tensors;
  std::vector<std::vector<float>> all = {Values(*t.token_embedding)};
  for (const DecoderLayerTensors& layer : t.layers) {
    all.push_back(HalfSplitValues(model, *layer.q, model.config.heads));
    all.push_back(HalfSplitValues(model, *layer.k, model.config.kv_heads));
    for (const TensorView* view :
         {layer.attn_norm, layer.v, layer.o, layer.ffn_norm, layer.gate, layer.up, layer.down}) {
      all.push_back(Values(*view));
    }
  }
  all.push_back(Values(*t.final_norm));
  all.push_back(Values(*t.output));
  return all;
}

// The folder with the weights of a model as they were made: "tied" for "tied.Q8_0.gguf", "untied"
// for "untied_sharded".
std::string OriginalOf(const std::string& name) { return name.substr(0, name.find_first_of("._")); }

// Largest distance between two neighbouring values of a block, relative to the block's largest
// value. Rounding to nearest in blocks of 32: Q8_0 has 254 steps over twice the largest value, Q4_1
// 15 steps from the least to the largest (at most twice the largest apart).
double StepOf(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return 1.0 / 127;
    case TensorType::kQ4_1:
      return 2.0 / 15;
    default:
      return 0;
  }
}

// Folders and GGUF files of the family.
std::set<std::string> Models() {
  const fs::path folder = test::GoldenDir() / "llama_tiny";
  std::set<std::string> models;
  if (!fs::exists(folder)) return models;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() || entry.path().extension() == ".gguf") {
      models.insert(entry.path().filename().string());
    }
  }
  return models;
}

TEST(LlamaTinyTest, EveryFormatHoldsTheSameModel) {
  const std::set<std::string> models = Models();
  LECTERN_REQUIRE_FILE(!models.empty(), "golden family llama_tiny");
  const fs::path folder = test::GoldenDir() / "llama_tiny";
  for (const std::string& name : models) {
    SCOPED_TRACE(name);
    const auto model = OpenAny(folder / name);
    ASSERT_TRUE(model.ok()) << model.status();
    const auto reference = OpenAny(folder / OriginalOf(name));
    ASSERT_TRUE(reference.ok()) << reference.status();
    EXPECT_EQ(model->config.tied, reference->config.tied);
    EXPECT_EQ(model->config.hidden, reference->config.hidden);
    EXPECT_EQ(model->config.vocab, reference->config.vocab);
    EXPECT_EQ(model->config.context_length, reference->config.context_length);
    EXPECT_EQ(model->config.head_dim, reference->config.head_dim);
    const auto got = AllValues(*model), want = AllValues(*reference);
    ASSERT_EQ(got.size(), want.size());
    // Half a step, and a step more in relative fp16 precision of the scales.
    const double step = StepOf(model->tensors.layers.at(0).q->type);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].size(), want[i].size()) << i;
      for (size_t begin = 0; begin < got[i].size(); begin += 32) {
        double largest = 0;
        const size_t end = std::min(begin + 32, got[i].size());
        for (size_t j = begin; j < end; ++j) {
          largest = std::max<double>(largest, std::abs(want[i][j]));
        }
        for (size_t j = begin; j < end; ++j) {
          const double bound = largest * (step == 0 ? 0 : step / 2 + std::ldexp(1.0, -9));
          ASSERT_LE(std::abs(static_cast<double>(got[i][j]) - want[i][j]), bound)
              << "tensor " << i << " value " << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lectern
