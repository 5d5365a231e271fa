// The contract of Model::Forward, on tiny models: results do not depend on the batch, on how a
// sequence is cut, or on where its pages are; errors name the wrong argument.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/error_details.h"
#include "server/model/loading/model_loader.h"
#include "tests/server/model/sequence.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using ::testing::HasSubstr;
using Numerics = ModelLoadOptions::Numerics;

const AttentionPolicy kDefault = {.top_k = 8, .layer_k = {0}, .tail = AttentionPolicy::Tail::kMean};
const AttentionPolicy kPaper = {.top_k = 5, .layer_k = {}, .tail = AttentionPolicy::Tail::kNone};

std::vector<int32_t> SomeTokens(int64_t count, int32_t seed) {
  std::vector<int32_t> tokens(count);
  uint32_t state = seed;
  for (int32_t& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<int32_t>(state >> 24);
  }
  return tokens;
}

class LlamaForwardTest : public ::testing::TestWithParam<Numerics> {
 protected:
  void SetUp() override {
    const bool blocks = GetParam() == Numerics::kBlocks;
    const auto path =
        FixtureDir() / "llama_tiny" / (blocks ? "untied.Q4_1.gguf" : "untied.F32.gguf");
    LECTERN_REQUIRE_FILE(std::filesystem::exists(path), path.string());
    auto model = LoadModel({.name = "tiny", .path = path, .numerics = GetParam(), .threads = 2});
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *model;
    workspace_ = model_->NewWorkspace();
  }

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Workspace> workspace_;
};

TEST_P(LlamaForwardTest, CutsDoNotMatter) {
  const auto tokens = SomeTokens(150, 1);
  for (const AttentionPolicy& policy : {kDefault, kPaper, AttentionPolicy::Exact()}) {
    Sequence whole(*model_, policy);
    const auto want = AllLogits(*model_, whole, tokens);
    for (const int64_t slice : {1, 7, 64, 100}) {
      SCOPED_TRACE(slice);
      Sequence cut(*model_, policy);
      EXPECT_EQ(AllLogits(*model_, cut, tokens, slice), want);
    }
  }
}

TEST_P(LlamaForwardTest, OtherSlicesDoNotMatter) {
  const std::vector<AttentionPolicy> policies = {kDefault, kPaper, AttentionPolicy::Exact(),
                                                 kDefault, kPaper};
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> alone, together;
  std::vector<KeptMass> mass_alone(policies.size()), mass_together(policies.size());
  std::vector<std::vector<float>> key_alone, key_together;
  std::vector<Sequence> sequences;
  std::vector<ForwardSlice> batch;
  for (size_t i = 0; i < policies.size(); ++i) {
    tokens.push_back(SomeTokens(20 + 17 * static_cast<int64_t>(i), static_cast<int32_t>(i)));
    alone.emplace_back(model_->info().vocabulary);
    together.emplace_back(model_->info().vocabulary);
    key_alone.emplace_back(tokens[i].size());
    key_together.emplace_back(tokens[i].size());
    sequences.emplace_back(*model_, policies[i]);
  }
  for (size_t i = 0; i < policies.size(); ++i) {
    Sequence own(*model_, policies[i]);
    ForwardSlice slice = own.Next(tokens[i]);
    slice.logits = alone[i].data();
    slice.kept_mass = &mass_alone[i];
    slice.key_mass = key_alone[i].data();
    ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());
    batch.push_back(sequences[i].Next(tokens[i]));
    batch.back().logits = together[i].data();
    batch.back().kept_mass = &mass_together[i];
    batch.back().key_mass = key_together[i].data();
  }
  ASSERT_TRUE(model_->Forward(batch, *workspace_).ok());
  for (size_t i = 0; i < policies.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(together[i], alone[i]);
    EXPECT_EQ(key_together[i], key_alone[i]);
    EXPECT_EQ(mass_together[i].count, mass_alone[i].count);
    EXPECT_NEAR(mass_together[i].sum, mass_alone[i].sum, 1e-3);
  }
}

// Two slices of one sequence in a batch, which skip what is not needed for evidence, between
// slices that do not.
TEST_P(LlamaForwardTest, EvidenceOnlyGivesTheSameEvidence) {
  const auto document = SomeTokens(70, 3), frame = SomeTokens(4, 4), question = SomeTokens(9, 5);
  const size_t keys = document.size() + frame.size() + question.size();
  Sequence full(*model_, kDefault), first(*model_, kDefault), last(*model_, kDefault);
  AllLogits(*model_, full, document);
  AllLogits(*model_, first, document);
  AllLogits(*model_, last, document);
  Sequence short_cut = full.Copy();
  std::vector<float> of_frame(keys), of_question(keys), short_of_frame(keys),
      short_of_question(keys), logits(model_->info().vocabulary), last_logits(logits.size());
  const std::vector<float> want = AllLogits(*model_, first, frame);

  ForwardSlice slice = full.Next(frame);
  slice.key_mass = of_frame.data();
  ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());
  slice = full.Next(question);
  slice.key_mass = of_question.data();
  ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());

  std::vector<ForwardSlice> batch = {short_cut.Next(frame), short_cut.Next(question),
                                     last.Next(frame)};
  KeptMass mass;
  batch[0].key_mass = short_of_frame.data();
  batch[1].key_mass = short_of_question.data();
  batch[0].kept_mass = batch[1].kept_mass = &mass;
  batch[0].evidence_only = batch[1].evidence_only = true;
  batch[2].logits = last_logits.data();
  ASSERT_TRUE(model_->Forward(batch, *workspace_).ok());
  EXPECT_EQ(short_of_frame, of_frame);
  EXPECT_EQ(short_of_question, of_question);
  EXPECT_GT(std::accumulate(of_question.begin(), of_question.end(), 0.0), 0.0);
  EXPECT_EQ(last_logits, std::vector<float>(want.end() - model_->info().vocabulary, want.end()));

  // Alone, nothing is left to do after the last layer that shows evidence.
  Sequence alone(*model_, kDefault);
  AllLogits(*model_, alone, document);
  batch = {alone.Next(frame)};
  std::fill(short_of_frame.begin(), short_of_frame.end(), 0.0f);
  batch[0].key_mass = short_of_frame.data();
  batch[0].evidence_only = true;
  ASSERT_TRUE(model_->Forward(batch, *workspace_).ok());
  EXPECT_EQ(short_of_frame, of_frame);
}

TEST_P(LlamaForwardTest, CopiedPagesContinueAlike) {
  const auto tokens = SomeTokens(100, 3);
  const auto tail = SomeTokens(40, 4);
  Sequence original(*model_, kDefault);
  AllLogits(*model_, original, tokens);
  Sequence copy = original.Copy();
  EXPECT_EQ(AllLogits(*model_, copy, tail), AllLogits(*model_, original, tail));
}

TEST_P(LlamaForwardTest, KeptMassCountsQueriesOfSparseLayers) {
  const auto tokens = SomeTokens(50, 5);
  Sequence sequence(*model_, kDefault);
  ForwardSlice slice = sequence.Next(tokens);
  KeptMass mass;
  slice.kept_mass = &mass;
  ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());
  // Layer 0 is dense; the other one has 4 query heads.
  EXPECT_EQ(mass.count, 50 * 4 * (model_->info().layers - 1));
  EXPECT_GT(mass.min, 0.0);
  EXPECT_LT(mass.min, 1.0);
  EXPECT_LE(mass.sum, mass.count * (1 + 1e-6));
}

TEST_P(LlamaForwardTest, TokensThatSeeFewKeysAttendToAllOfThem) {
  const auto tokens = SomeTokens(90, 8);
  const int64_t dense = 40, vocabulary = model_->info().vocabulary;
  AttentionPolicy policy = kPaper;
  policy.dense_up_to = dense;
  Sequence exact(*model_), cut(*model_, policy), paper(*model_, kPaper);
  const std::vector<float> want = AllLogits(*model_, exact, tokens);
  ForwardSlice slice = cut.Next(tokens);
  std::vector<float> got(want.size());
  KeptMass mass;
  slice.all_logits = got.data();
  slice.kept_mass = &mass;
  ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());
  const auto at = [&](const std::vector<float>& logits, int64_t first, int64_t end) {
    return std::vector<float>(logits.begin() + first * vocabulary,
                              logits.begin() + end * vocabulary);
  };
  EXPECT_EQ(at(got, 0, dense), at(want, 0, dense));
  EXPECT_NE(at(got, dense, dense + 1), at(want, dense, dense + 1));
  EXPECT_NE(AllLogits(*model_, paper, tokens), got);
  EXPECT_EQ(mass.count, (90 - dense) * 4 * model_->info().layers);

  policy.dense_up_to = 90;
  Sequence whole(*model_, policy);
  EXPECT_EQ(AllLogits(*model_, whole, tokens), want);
}

TEST_P(LlamaForwardTest, KeyMassSumsToQueriesTimesHeads) {
  const auto tokens = SomeTokens(50, 6);
  Sequence sequence(*model_);
  ForwardSlice slice = sequence.Next(tokens);
  std::vector<float> key_mass(50, 0.0f);
  slice.key_mass = key_mass.data();
  ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());
  // Of two layers, layer 0 is the evidence range [0.4 * 2, 0.8 * 2).
  EXPECT_NEAR(std::accumulate(key_mass.begin(), key_mass.end(), 0.0), 50 * 4, 1e-3 * 50 * 4);
}

TEST_P(LlamaForwardTest, LogitsAreTheLastRowOfAllLogits) {
  const auto tokens = SomeTokens(30, 7);
  std::vector<float> last(model_->info().vocabulary);
  Sequence a(*model_, kDefault), b(*model_, kDefault);
  const auto all = AllLogits(*model_, a, tokens);
  ForwardSlice slice = b.Next(tokens);
  slice.logits = last.data();
  ASSERT_TRUE(model_->Forward({&slice, 1}, *workspace_).ok());
  EXPECT_EQ(last, std::vector<float>(all.end() - model_->info().vocabulary, all.end()));
}

TEST_P(LlamaForwardTest, BadArgumentsAreToldByName) {
  const auto tokens = SomeTokens(10, 8);
  const auto check = [&](auto change, const std::string& field) {
    Sequence sequence(*model_);
    ForwardSlice slices[2] = {sequence.Next(tokens), {}};
    Sequence second(*model_);
    slices[1] = second.Next(tokens);
    change(slices[1]);
    const absl::Status status = model_->Forward(slices, *workspace_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    const auto violations = GetErrorDetails(status).field_violations;
    ASSERT_EQ(violations.size(), 1u);
    EXPECT_EQ(violations[0].field, "slices[1]." + field);
  };
  const std::vector<int32_t> negative = {1, -1}, large = {256};
  std::byte* const odd_page[] = {reinterpret_cast<std::byte*>(8)};
  const AttentionPolicy bad_policy = {.top_k = -1, .layer_k = {}, .tail = {}};
  check([&](ForwardSlice& s) { s.tokens = {}; }, "tokens");
  check([&](ForwardSlice& s) { s.tokens = negative; }, "tokens");
  check([&](ForwardSlice& s) { s.tokens = large; }, "tokens");
  check([&](ForwardSlice& s) { s.position = -1; }, "position");
  check([&](ForwardSlice& s) { s.position = model_->info().context_length - 9; }, "position");
  check([&](ForwardSlice& s) { s.position = INT64_MAX; }, "position");
  check([&](ForwardSlice& s) { s.pages = {}; }, "pages");
  check([&](ForwardSlice& s) { s.position = 60; }, "pages");
  check([&](ForwardSlice& s) { s.pages = odd_page; }, "pages");
  check([&](ForwardSlice& s) { s.policy = nullptr; }, "policy");
  check([&](ForwardSlice& s) { s.policy = &bad_policy; }, "policy");
}

TEST_P(LlamaForwardTest, NoSlicesIsNoWork) { EXPECT_TRUE(model_->Forward({}, *workspace_).ok()); }

INSTANTIATE_TEST_SUITE_P(Numerics, LlamaForwardTest,
                         ::testing::Values(Numerics::kF32, Numerics::kInt8Rotated,
                                           Numerics::kBlocks),
                         [](const auto& info) {
                           return info.param == Numerics::kF32      ? "F32"
                                  : info.param == Numerics::kBlocks ? "Blocks"
                                                                    : "Int8Rotated";
                         });

}  // namespace
}  // namespace lectern::test
