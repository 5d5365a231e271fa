// Quality lost by the serving numerics on the real model, against its fp32 form: the gates of
// docs/measurements/quality.md, on a prompt of tests/golden/smollm2 and on a text of docs/sample.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "server/model/loading/model_loader.h"
#include "tests/server/model/decoder/real_model.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using Numerics = ModelLoadOptions::Numerics;

// Sums over positions of a text.
struct Comparison {
  double kl = 0;  // KL(fp32 || int8) of the next-token distribution, nats
  double nll_reference = 0;
  double nll = 0;
  int64_t agree = 0;
  int64_t positions = 0;

  double perplexity_change() const { return std::exp((nll - nll_reference) / positions) - 1; }
};

// log of the normaliser of a row of logits.
double LogNormaliser(const float* logits, int64_t count) {
  const double largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(logits[i] - largest);
  return largest + std::log(sum);
}

void AddPosition(const float* reference, const float* got, int64_t vocabulary, int32_t next,
                 Comparison& result) {
  const double reference_log = LogNormaliser(reference, vocabulary);
  const double got_log = LogNormaliser(got, vocabulary);
  for (int64_t i = 0; i < vocabulary; ++i) {
    const double p = reference[i] - reference_log;
    result.kl += std::exp(p) * (p - (got[i] - got_log));
  }
  result.nll_reference -= reference[next] - reference_log;
  result.nll -= got[next] - got_log;
  result.agree += std::max_element(reference, reference + vocabulary) - reference ==
                  std::max_element(got, got + vocabulary) - got;
  ++result.positions;
}

struct Contender {
  const Model* model;
  AttentionPolicy policy;
};

Comparison Compare(const Contender& reference, const Contender& other,
                   std::span<const int32_t> tokens) {
  constexpr size_t kSlice = 256;
  const int64_t vocabulary = reference.model->info().vocabulary;
  Sequence a(*reference.model, reference.policy), b(*other.model, other.policy);
  Comparison result;
  for (size_t first = 0; first + 1 < tokens.size(); first += kSlice) {
    const auto part = tokens.subspan(first, std::min(kSlice, tokens.size() - first));
    const auto want = AllLogits(*reference.model, a, part);
    const auto got = AllLogits(*other.model, b, part);
    for (size_t row = 0; row < part.size() && first + row + 1 < tokens.size(); ++row) {
      AddPosition(want.data() + row * vocabulary, got.data() + row * vocabulary, vocabulary,
                  tokens[first + row + 1], result);
    }
  }
  return result;
}

void Report(const char* what, const Comparison& c) {
  std::printf("%s: KL %.4f, perplexity %.3f -> %.3f (%+.2f %%), agree %.3f, %d positions\n", what,
              c.kl / c.positions, std::exp(c.nll_reference / c.positions),
              std::exp(c.nll / c.positions), 100 * c.perplexity_change(),
              static_cast<double>(c.agree) / c.positions, static_cast<int>(c.positions));
}

class Int8QualityTest : public ::testing::TestWithParam<Numerics> {};

TEST_P(Int8QualityTest, StaysCloseToF32) {
  LECTERN_REQUIRE_FILE(std::filesystem::exists(RealModelPath()), RealModelPath());
  std::vector<int32_t> tokens;
  for (const GoldenCase& c : GoldenCases("smollm2", FixtureDir())) {
    if (c.name == "logits_long") tokens = c.Load()["input_ids"].i32;
  }
  LECTERN_REQUIRE_FILE(!tokens.empty(), "golden case smollm2/logits_long");
  const auto f32 = LoadRealModel(Numerics::kF32);
  const auto int8 = LoadRealModel(GetParam());
  ASSERT_TRUE(f32.ok()) << f32.status();
  ASSERT_TRUE(int8.ok()) << int8.status();
  const AttentionPolicy exact = AttentionPolicy::Exact();
  const AttentionPolicy standard = (*int8)->info().default_policy;

  const Comparison numerics = Compare({f32->get(), exact}, {int8->get(), exact}, tokens);
  Report("dense", numerics);
  // The gate of docs/measurements/quality.md.
  EXPECT_LE(numerics.kl / numerics.positions, 0.01);
  EXPECT_LE(std::abs(numerics.perplexity_change()), 0.01);

  if (GetParam() == Numerics::kInt8Rotated) {  // once: it does not depend on the parameter
    const Comparison sparse = Compare({f32->get(), exact}, {f32->get(), standard}, tokens);
    Report("fp32, default policy", sparse);
    EXPECT_LE(sparse.kl / sparse.positions, 0.02);
  }

  // The default policy adds to that; it is bounded by what it may cost in longer contexts.
  const Comparison policy = Compare({f32->get(), exact}, {int8->get(), standard}, tokens);
  Report("default policy", policy);
  EXPECT_LE(policy.kl / policy.positions, 0.03);
}

// A longer text, and how often both would continue it alike.
TEST_P(Int8QualityTest, PerplexityOfATextStaysWithinOnePercent) {
  constexpr size_t kTokens = 1601;
  LECTERN_REQUIRE_FILE(std::filesystem::exists(RealModelPath()), RealModelPath());
  const char* source = std::getenv("LECTERN_SOURCE_DIR");
  const auto path = std::filesystem::path(source != nullptr ? source : ".") / "docs" / "sample" /
                    "pumping_station.txt";
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  const auto f32 = LoadRealModel(Numerics::kF32);
  const auto int8 = LoadRealModel(GetParam());
  ASSERT_TRUE(f32.ok()) << f32.status();
  ASSERT_TRUE(int8.ok()) << int8.status();
  std::vector<int32_t> tokens = (*f32)->tokenizer().Encode(text.str(), false).ids;
  ASSERT_GE(tokens.size(), kTokens) << path;
  tokens.resize(kTokens);

  const AttentionPolicy exact = AttentionPolicy::Exact();
  const Comparison numerics = Compare({f32->get(), exact}, {int8->get(), exact}, tokens);
  Report("pumping_station.txt, dense", numerics);
  EXPECT_EQ(numerics.positions, kTokens - 1);
  EXPECT_LE(std::abs(numerics.perplexity_change()), 0.01);
  // Not a quality that is promised: a floor against breakage.
  EXPECT_GE(static_cast<double>(numerics.agree) / numerics.positions, 0.9);
}

INSTANTIATE_TEST_SUITE_P(Numerics, Int8QualityTest,
                         ::testing::Values(Numerics::kInt8Rotated, Numerics::kBlocks),
                         [](const auto& info) {
                           return info.param == Numerics::kBlocks ? "Blocks" : "Int8Rotated";
                         });

}  // namespace
}  // namespace lectern::test
