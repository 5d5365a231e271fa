// Decoders in forms that were once read wrongly (tests/golden/compat), against transformers.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/model/loading/model_loader.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void ExpectLogits(const fs::path& model_path, const fs::path& expected_path) {
  LECTERN_REQUIRE_FILE(exists(expected_path), expected_path.string());
  const json expected = json::parse(std::ifstream(expected_path));
  const auto model = LoadModel(
      {.name = "m", .path = model_path.string(), .numerics = ModelLoadOptions::Numerics::kF32});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto prompt = expected.at("prompt_ids").get<std::vector<int32_t>>();
  const size_t vocabulary = (*model)->info().vocabulary;
  std::vector<float> logits(prompt.size() * vocabulary);
  Sequence sequence(**model);
  ForwardSlice slice = sequence.Next(prompt);
  slice.all_logits = logits.data();
  ASSERT_TRUE((*model)->Forward({&slice, 1}, *(*model)->NewWorkspace()).ok());
  std::vector<int32_t> best;
  for (auto row = logits.begin(); row != logits.end(); row += vocabulary) {
    best.push_back(static_cast<int32_t>(std::max_element(row, row + vocabulary) - row));
  }
  EXPECT_EQ(best, expected.at("argmax_at_every_position").get<std::vector<int32_t>>());
  // The file has five decimals of an fp32 run.
  const auto want = expected.at("logits_of_last_position").get<std::vector<double>>();
  EXPECT_EQ(CompareValues({logits.end() - vocabulary, logits.end()}, want, {5e-5, 1e-5}), "");
}

// config.json says that the output matrix is the embedding table, but the file has another one.
TEST(DecoderCompatTest, TiedTablesThatDiffer) {
  const fs::path folder = FixtureDir() / "compat" / "llama-tied-with-other-head";
  ExpectLogits(folder, folder / "expected.json");
}

// A factor of RoPE without a type is linear.
TEST(DecoderCompatTest, RopeFactorWithoutType) {
  const fs::path folder = FixtureDir() / "compat" / "gguf";
  ExpectLogits(folder / "rope-factor-without-type.gguf",
               folder / "rope-factor-without-type.expected.json");
}

}  // namespace
}  // namespace lectern::test
