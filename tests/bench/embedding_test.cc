// The encoder on trained weights: sentence embeddings of all-MiniLM-L6-v2 against transformers' in
// float64 (tests/golden/generate/gen_minilm.py). The weights are what cmake/setup installs.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bench/answers/embedding.h"
#include "tests/server/model/decoder/real_model.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using Numerics = ModelLoadOptions::Numerics;

struct Expected {
  std::vector<std::string> texts;
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<float>> embeddings;
  GoldenCase golden;
};

Expected ReadExpected(const GoldenCase& c) {
  Expected expected{.golden = c};
  std::ifstream file(c.folder / c.params.at("texts").get<std::string>());
  expected.texts = nlohmann::json::parse(file).get<std::vector<std::string>>();
  const GoldenTensors data = c.Load();
  const int64_t hidden = c.params.at("hidden").get<int64_t>();
  auto id = data["ids"].i32.begin();
  auto value = data["embeddings"].f32.begin();
  for (const int32_t tokens : data["tokens"].i32) {
    expected.ids.emplace_back(id, id + tokens);
    id += tokens;
    expected.embeddings.emplace_back(value, value + hidden);
    value += hidden;
  }
  return expected;
}

class EmbeddingTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = RealModelPath("all-MiniLM-L6-v2");
    LECTERN_REQUIRE_FILE(std::filesystem::exists(folder), folder);
    const auto cases = GoldenCases("minilm");
    LECTERN_REQUIRE_FILE(!cases.empty(), "golden family minilm");
    expected_ = ReadExpected(cases.front());
    ASSERT_GE(expected_.texts.size(), 10u);
    ASSERT_EQ(expected_.texts.size(), expected_.embeddings.size());
  }

  static std::unique_ptr<Embedder> Load(Numerics numerics) {
    auto embedder = Embedder::Load(RealModelPath("all-MiniLM-L6-v2"), numerics, 2);
    EXPECT_TRUE(embedder.ok()) << embedder.status();
    return embedder.ok() ? *std::move(embedder) : nullptr;
  }

  static std::vector<float> Embed(const Embedder& embedder, const std::string& text, int64_t k) {
    AttentionPolicy policy = AttentionPolicy::Exact();
    policy.top_k = k;
    policy.tail = AttentionPolicy::Tail::kNone;
    auto embedding = embedder.Embed(text, policy);
    EXPECT_TRUE(embedding.ok()) << embedding.status();
    return embedding.ok() ? *std::move(embedding) : std::vector<float>();
  }

  Expected expected_;
};

TEST_F(EmbeddingTest, Fp32MatchesTransformers) {
  const auto embedder = Load(Numerics::kF32);
  ASSERT_NE(embedder, nullptr);
  for (size_t i = 0; i < expected_.texts.size(); ++i) {
    SCOPED_TRACE(expected_.texts[i].substr(0, 60));
    EXPECT_EQ(embedder->Ids(expected_.texts[i]), expected_.ids[i]);
    const std::vector<double> want(expected_.embeddings[i].begin(), expected_.embeddings[i].end());
    EXPECT_EQ(CompareValues(Embed(*embedder, expected_.texts[i], 0), want,
                            expected_.golden.ToleranceOf("embeddings")),
              "");
  }
}

// A row mixed by Hadamard blocks is near normal, its largest value some 4 standard deviations s:
// rounding to n levels on either side adds noise of 4 s / n / sqrt(12), relative to s 0.009 for the
// 8 bits of weights, keys and values and 0.018 for the 7 of a product's input on AVX2 (other CPUs
// have 8). Four products, keys and values in each of six layers add up, as independent errors do,
// to 0.105 of a state's length; averaging over the tokens of a text only lessens it. The cosine
// falls by half its square.
TEST_F(EmbeddingTest, Int8StaysClose) {
  const auto embedder = Load(Numerics::kInt8Rotated);
  ASSERT_NE(embedder, nullptr);
  for (size_t i = 0; i < expected_.texts.size(); ++i) {
    SCOPED_TRACE(expected_.texts[i].substr(0, 60));
    const double cosine = Cosine(Embed(*embedder, expected_.texts[i], 0), expected_.embeddings[i]);
    EXPECT_GT(cosine, 1 - 0.105 * 0.105 / 2);
    EXPECT_LT(cosine, 1 - 1e-6) << "is this int8 at all?";
  }
}

// Near ties at the edge of the selection are decided by rounding, so the cosines to dense are
// compared, not the values; the tolerance is of what other roundings make of them.
TEST_F(EmbeddingTest, TopKIsAsFarFromDenseAsTransformersWithTopK) {
  const auto embedder = Load(Numerics::kF32);
  ASSERT_NE(embedder, nullptr);
  for (const auto& [k, cosines] : expected_.golden.params.at("topk_cosines").items()) {
    ASSERT_EQ(cosines.size(), expected_.texts.size());
    const double atol = expected_.golden.ToleranceOf("topk_cosines." + k).atol;
    for (size_t i = 0; i < expected_.texts.size(); ++i) {
      SCOPED_TRACE("k = " + k + ": " + expected_.texts[i].substr(0, 60));
      const double cosine =
          Cosine(Embed(*embedder, expected_.texts[i], std::stoll(k)), expected_.embeddings[i]);
      EXPECT_NEAR(cosine, cosines[i].get<double>(), atol);
    }
  }
}

TEST_F(EmbeddingTest, RefusesATextBeyondTheWindow) {
  const auto embedder = Load(Numerics::kInt8Rotated);
  ASSERT_NE(embedder, nullptr);
  std::string text;
  for (int i = 0; i < 600; ++i) text += "word ";
  const auto embedding = embedder->Embed(text, AttentionPolicy::Exact());
  EXPECT_EQ(embedding.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lectern::test
