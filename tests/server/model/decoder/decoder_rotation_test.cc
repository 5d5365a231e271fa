// Rotation changes nothing but the numbers inside: a rotated model, multiplied in fp32, gives the
// golden logits of the model as it is stored.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/status_macros.h"
#include "server/formats/gguf.h"
#include "server/formats/safetensors.h"
#include "server/model/decoder/decoder_model.h"
#include "server/model/model_files.h"
#include "tests/server/model/decoder/decoder_files.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

// The parts of a model that a forward pass needs; its tokenizer is none of them.
struct OpenedDecoder {
  DecoderConfig config;
  std::unique_ptr<TensorSource> source;
  DecoderTensors tensors;
};

absl::StatusOr<OpenedDecoder> Open(const std::string& path, int64_t context_length) {
  OpenedDecoder opened;
  const bool folder = std::filesystem::is_directory(path);
  if (folder) {
    LECTERN_ASSIGN_OR_RETURN(const std::string json, ReadTextFile(path + "/config.json"));
    LECTERN_ASSIGN_OR_RETURN(opened.config, ReadDecoderConfigJson(json, path, context_length));
    LECTERN_ASSIGN_OR_RETURN(opened.source, OpenSafetensors(path, /*ignore_other_types=*/true));
  } else {
    LECTERN_ASSIGN_OR_RETURN(auto file, GgufFile::Open(path));
    LECTERN_ASSIGN_OR_RETURN(opened.config, ReadDecoderConfig(*file, context_length));
    opened.source = std::move(file);
  }
  LECTERN_ASSIGN_OR_RETURN(opened.tensors, FindDecoderTensors(*opened.source, opened.config,
                                                              folder ? DecoderNaming::kHuggingFace
                                                                     : DecoderNaming::kGguf));
  return opened;
}

bool NormsBranches(const DecoderConfig& config) {
  return std::any_of(config.layer.begin(), config.layer.end(), [](const DecoderLayer& layer) {
    return layer.attention_post_norm || layer.ffn_post_norm;
  });
}

// Rotated, but not quantised.
absl::StatusOr<std::unique_ptr<const Model>> LoadRotatedF32(const std::string& path,
                                                            int64_t context_length = 0) {
  LECTERN_ASSIGN_OR_RETURN(OpenedDecoder opened, Open(path, context_length));
  LECTERN_ASSIGN_OR_RETURN(LinearForm form, LinearForm::Of(ModelLoadOptions::Numerics::kF32, 1));
  form.rotated = true;
  const DecoderConfig& config = opened.config;
  LECTERN_ASSIGN_OR_RETURN(auto weights, DecoderWeights::Load(config, std::move(opened.source),
                                                              std::move(opened.tensors), form));
  EXPECT_EQ(weights->head.norm_weight(), nullptr) << "the norms are not folded";
  EXPECT_EQ(config.head_dim % weights->qk_hadamard(), 0);
  EXPECT_EQ(config.head_dim / weights->qk_hadamard() % 2, 1) << "queries and keys are not mixed";
  EXPECT_EQ(weights->rotates_stream(), !NormsBranches(config));
  return std::make_unique<const DecoderModel>(DecoderParts{
      .config = config, .weights = std::move(weights), .prompt = Prompt(CompletionFormat())});
}

TEST(DecoderRotationTest, IsTheSameFunction) {
  int checked = 0;
  for (const GoldenCase& c : GoldenCases("llama_tiny")) {
    if (!c.params.contains("model_file")) continue;
    SCOPED_TRACE(c.name);
    const auto model = LoadRotatedF32(c.folder / c.params.at("model_file").get<std::string>());
    ASSERT_TRUE(model.ok()) << model.status();
    const GoldenTensors data = c.Load();
    const GoldenTensor& ids = data["input_ids"];
    const int64_t tokens = ids.shape.at(1);
    std::vector<float> logits;
    for (int64_t row = 0; row < ids.shape.at(0); ++row) {
      Sequence sequence(**model);
      const std::vector<float> of_row = AllLogits(
          **model, sequence, {ids.i32.data() + row * tokens, static_cast<size_t>(tokens)});
      logits.insert(logits.end(), of_row.begin(), of_row.end());
    }
    EXPECT_EQ(CompareValues(logits, data["logits"].f64, c.ToleranceOf("logits")), "");
    ++checked;
  }
  LECTERN_REQUIRE_FILE(checked > 0, "golden family llama_tiny");
}

// Every family: biases, norms on the branches, several matrices in one tensor.
class DecoderFilesRotationTest : public ::testing::TestWithParam<DecoderFile> {};

TEST_P(DecoderFilesRotationTest, IsTheSameFunction) {
  const auto model = LoadRotatedF32(GetParam().path, GetParam().context_length);
  ASSERT_TRUE(model.ok()) << model.status();
  const DecoderVariant& want = GetParam().dense();
  Sequence sequence(**model);
  const std::vector<float> logits = AllLogits(**model, sequence, GetParam().prompt);
  const int64_t vocabulary = (*model)->info().vocabulary;
  for (size_t i = 0; i < want.positions.size(); ++i) {
    std::vector<float> of_ids;
    for (int64_t id = 0; id < vocabulary; id += want.id_step) {
      of_ids.push_back(logits[want.positions[i] * vocabulary + id]);
    }
    EXPECT_EQ(CompareValues(of_ids, want.logits[i], want.tolerance), "");
  }
}

INSTANTIATE_TEST_SUITE_P(All, DecoderFilesRotationTest, ::testing::ValuesIn(DecoderFiles()),
                         [](const auto& info) { return info.param.name; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DecoderFilesRotationTest);

}  // namespace
}  // namespace lectern::test
