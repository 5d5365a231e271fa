// Rotation changes nothing but the numbers inside: a rotated model, multiplied in fp32, gives the
// golden logits of the model as it is stored.
#include <gtest/gtest.h>

#include "server/formats/gguf.h"
#include "server/model/decoder/decoder_model.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

// Rotated, but not quantised. Without its tokenizer, which this test does not need.
absl::StatusOr<std::unique_ptr<const Model>> LoadRotatedF32(const std::string& path) {
  auto file = GgufFile::Open(path);
  if (!file.ok()) return file.status();
  auto config = ReadDecoderConfig(**file);
  if (!config.ok()) return config.status();
  auto tensors = FindDecoderTensors(**file, *config, DecoderNaming::kGguf);
  if (!tensors.ok()) return tensors.status();
  auto form = LinearForm::Of(ModelLoadOptions::Numerics::kF32, /*threads=*/2);
  if (!form.ok()) return form.status();
  form->rotated = true;
  auto weights = DecoderWeights::Load(*config, *std::move(file), *std::move(tensors), *form);
  if (!weights.ok()) return weights.status();
  EXPECT_EQ((*weights)->head.norm_weight(), nullptr) << "the norms are not folded";
  if (PowerOfTwoFactor(config->head_dim) == config->head_dim) {
    EXPECT_EQ((*weights)->qk_hadamard(), config->head_dim) << "queries and keys are not mixed";
  }
  return std::make_unique<const DecoderModel>(
      DecoderParts{.config = *config, .weights = *std::move(weights), .prompt = Prompt(nullptr)});
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

}  // namespace
}  // namespace lectern::test
