// The bits of an answer do not depend on how it was computed: the promise of llama_invariance_test,
// on the real model, with a document and questions as the engine passes them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/server/model/decoder/real_model.h"
#include "tests/server/model/invariance.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using Numerics = ModelLoadOptions::Numerics;

constexpr int kAnswerTokens = 3;

// Fp32 is slow: there a document that ends inside its third page, else one that crosses a span of
// the attention kernels.
size_t DocumentTokens(Numerics numerics) { return numerics == Numerics::kF32 ? 150 : 1290; }

std::vector<int32_t> Document(const Model& model, size_t tokens) {
  const char* source = std::getenv("LECTERN_SOURCE_DIR");
  const auto path = std::filesystem::path(source != nullptr ? source : ".") / "docs" / "sample" /
                    "pumping_station.txt";
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  std::vector<int32_t> ids = model.PromptPrefix();
  const auto body = model.tokenizer().Encode(text.str(), /*parse_special=*/false).ids;
  ids.insert(ids.end(), body.begin(), body.end());
  EXPECT_GE(ids.size(), tokens) << path;
  ids.resize(std::min(ids.size(), tokens));
  return ids;
}

int32_t Best(const Outputs& outputs) {
  const auto& logits = outputs.logits;
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Everything that one question gives: logits and statistics, step by step.
using Steps = std::vector<Outputs>;

// From nothing, alone.
Steps Alone(const Model& model, const AttentionPolicy& policy, std::span<const int32_t> prompt,
            int64_t slice_tokens) {
  Sequence sequence(model, policy);
  Steps steps = {Feed(model, sequence, prompt, slice_tokens)};
  while (steps.size() < kAnswerTokens) {
    const int32_t token = Best(steps.back());
    steps.push_back(Feed(model, sequence, {&token, 1}));
  }
  return steps;
}

// After the pages of a document, all questions in the same calls.
std::vector<Steps> Together(const Model& model, Sequence& document,
                            const std::vector<std::vector<int32_t>>& questions) {
  const auto workspace = model.NewWorkspace();
  std::vector<Continuing> sequences;
  for (size_t i = 0; i < questions.size(); ++i) sequences.emplace_back(model, document);
  std::vector<Steps> steps(questions.size());
  std::vector<std::vector<int32_t>> next = questions;
  for (int step = 0; step < kAnswerTokens; ++step) {
    std::vector<ForwardSlice> batch;
    for (size_t i = 0; i < questions.size(); ++i) {
      batch.push_back(sequences[i].Next(steps[i].emplace_back(), model, next[i]));
    }
    const absl::Status status = model.Forward(batch, *workspace);
    EXPECT_TRUE(status.ok()) << status;
    for (size_t i = 0; i < questions.size(); ++i) next[i] = {Best(steps[i].back())};
  }
  return steps;
}

class Smollm2InvarianceTest : public ::testing::TestWithParam<Numerics> {};

TEST_P(Smollm2InvarianceTest, AloneTogetherCachedRecomputed) {
  LECTERN_REQUIRE_FILE(std::filesystem::exists(RealModelPath()), RealModelPath());
  const auto model = LoadRealModel(GetParam());
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<int32_t> text = Document(**model, DocumentTokens(GetParam()));
  std::vector<std::vector<int32_t>> questions;
  for (const char* question : {"Who was on duty?", "When did the pump fail, and why?", "Where?"}) {
    questions.push_back((*model)->PromptSuffix(question).ids);
  }
  AttentionPolicy budget = (*model)->info().default_policy;
  budget.page_budget = 8;
  for (const AttentionPolicy& policy : {(*model)->info().default_policy, budget}) {
    SCOPED_TRACE("page_budget " + std::to_string(policy.page_budget));
    Sequence document(**model, policy);
    Feed(**model, document, text, 100);
    const std::vector<Steps> together = Together(**model, document, questions);
    for (size_t i = 0; i < 2; ++i) {
      SCOPED_TRACE("question " + std::to_string(i));
      std::vector<int32_t> prompt = text;
      prompt.insert(prompt.end(), questions[i].begin(), questions[i].end());
      const Steps alone = Alone(**model, policy, prompt, i == 0 ? 512 : 65);
      for (int step = 0; step < kAnswerTokens; ++step) {
        SCOPED_TRACE("step " + std::to_string(step));
        EXPECT_EQ(Difference(together[i][step].logits, alone[step].logits), "");
        if (step > 0) ExpectSame(together[i][step], alone[step]);
      }
    }
  }
}

TEST_P(Smollm2InvarianceTest, OneThreadOrTwo) {
  LECTERN_REQUIRE_FILE(std::filesystem::exists(RealModelPath()), RealModelPath());
  std::vector<Steps> results;
  for (const int threads : {1, 2}) {
    const auto model = LoadModel(
        {.name = "smollm2", .path = RealModelPath(), .numerics = GetParam(), .threads = threads});
    ASSERT_TRUE(model.ok()) << model.status();
    const auto text = Document(**model, DocumentTokens(GetParam()) / 2);
    results.push_back(Alone(**model, (*model)->info().default_policy, text, /*slice_tokens=*/256));
  }
  for (int step = 0; step < kAnswerTokens; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    ExpectSame(results[0][step], results[1][step]);
  }
}

INSTANTIATE_TEST_SUITE_P(Numerics, Smollm2InvarianceTest,
                         ::testing::Values(Numerics::kF32, Numerics::kInt8Rotated,
                                           Numerics::kBlocks),
                         [](const auto& info) {
                           return info.param == Numerics::kF32      ? "F32"
                                  : info.param == Numerics::kBlocks ? "Blocks"
                                                                    : "Int8Rotated";
                         });

}  // namespace
}  // namespace lectern::test
