// Span readers of every family (tests/golden/decoders) against transformers' results: ids of window
// and tokenizer, and the scores of where answers begin and end. Cases are discovered: every folder
// whose expected.json has start_logits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "server/model/loading/model_loader.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using nlohmann::json;
using Numerics = ModelLoadOptions::Numerics;

struct ReaderCase {
  std::filesystem::path folder;
  json expected;
};

std::vector<ReaderCase> ReaderCases() {
  std::vector<ReaderCase> cases;
  const std::filesystem::path folder = GoldenDir() / "decoders";
  if (!std::filesystem::exists(folder)) return cases;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path() / "expected.json");
    if (!file) continue;
    // The files of decoders hold Infinity, which is not JSON.
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (text.find("\"start_logits\"") == std::string::npos) continue;
    cases.push_back({entry.path(), json::parse(text)});
  }
  std::sort(cases.begin(), cases.end(),
            [](const ReaderCase& a, const ReaderCase& b) { return a.folder < b.folder; });
  return cases;
}

std::shared_ptr<const Model> Load(const ReaderCase& c, Numerics numerics) {
  const auto model =
      LoadModel({.name = "reader", .path = c.folder, .numerics = numerics, .threads = 2});
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

struct Scores {
  std::vector<float> begins, ends;
};

// The scores of several windows, computed in one call.
std::vector<Scores> ScoresOf(const Model& model, const std::vector<json>& inputs,
                             const AttentionPolicy& policy = AttentionPolicy::Exact()) {
  std::vector<std::vector<int32_t>> ids;
  std::vector<Scores> scores;
  for (const json& input : inputs) {
    ids.push_back(input.at("input_ids").get<std::vector<int32_t>>());
    scores.push_back(
        {std::vector<float>(ids.back().size()), std::vector<float>(ids.back().size())});
  }
  std::vector<ForwardSlice> slices(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    slices[i].tokens = ids[i];
    slices[i].policy = &policy;
    slices[i].encode = true;
    slices[i].document_begin = inputs[i].at("first_document_token").get<size_t>();
    slices[i].span_begins = scores[i].begins.data();
    slices[i].span_ends = scores[i].ends.data();
  }
  const absl::Status status = model.Forward(slices, *model.NewWorkspace());
  EXPECT_TRUE(status.ok()) << status;
  return scores;
}

Scores ScoresOf(const Model& model, const json& input) {
  return ScoresOf(model, std::vector<json>{input})[0];
}

std::vector<double> Values(const json& input, const char* key) {
  return input.at(key).get<std::vector<double>>();
}

// Root mean square of the differences, in units of the expected values' standard deviation.
double RelativeError(const std::vector<float>& got, const std::vector<double>& want) {
  double mean = 0, spread = 0, error = 0;
  for (const double value : want) mean += value / static_cast<double>(want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    spread += (want[i] - mean) * (want[i] - mean);
    error += (got[i] - want[i]) * (got[i] - want[i]);
  }
  return std::sqrt(error / spread);
}

// Rounding a row whose largest value is p times its root mean square to 8 bits moves it by
// p / (127 sqrt(12)); p is near 3.5 for rows of normal values. A product rounds both its factors.
// The errors of a layer's four products and of its keys and values are independent and add up in
// squares. Three times their size is allowed.
double LargestInt8Error(int layers) {
  const double of_product = std::sqrt(2.0) * 3.5 / (127 * std::sqrt(12.0));
  return 3 * of_product * std::sqrt(5.0 * layers);
}

class ReaderGoldenTest : public testing::Test {
 protected:
  void SetUp() override {
    cases_ = ReaderCases();
    LECTERN_REQUIRE_FILE(!cases_.empty(), "readers in golden family decoders");
  }
  std::vector<ReaderCase> cases_;
};

TEST_F(ReaderGoldenTest, Float32MatchesFloat64) {
  for (const ReaderCase& c : cases_) {
    SCOPED_TRACE(c.folder.filename());
    const auto model = Load(c, Numerics::kF32);
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->info().family, c.expected.at("model_type").get<std::string>());
    for (const json& input : c.expected.at("inputs")) {
      const json& allowed = input.at("tolerance");
      const Tolerance tolerance{allowed.at("atol"), allowed.at("rtol")};
      const Scores scores = ScoresOf(*model, input);
      EXPECT_EQ(CompareValues(scores.begins, Values(input, "start_logits"), tolerance), "");
      EXPECT_EQ(CompareValues(scores.ends, Values(input, "end_logits"), tolerance), "");
      EXPECT_NEAR(scores.begins[0] + scores.ends[0], input.at("null_score").get<double>(),
                  2 * tolerance.atol + 1e-4);  // the file rounds to six digits
    }
  }
}

TEST_F(ReaderGoldenTest, Int8IsClose) {
  for (const ReaderCase& c : cases_) {
    SCOPED_TRACE(c.folder.filename());
    const auto model = Load(c, Numerics::kInt8Rotated);
    ASSERT_NE(model, nullptr);
    const double allowed = LargestInt8Error(model->info().layers);
    for (const json& input : c.expected.at("inputs")) {
      const Scores scores = ScoresOf(*model, input);
      EXPECT_LT(RelativeError(scores.begins, Values(input, "start_logits")), allowed);
      EXPECT_LT(RelativeError(scores.ends, Values(input, "end_logits")), allowed);
    }
  }
}

TEST_F(ReaderGoldenTest, AWindowDoesNotDependOnItsBatch) {
  for (const ReaderCase& c : cases_) {
    SCOPED_TRACE(c.folder.filename());
    const auto inputs = c.expected.at("inputs").get<std::vector<json>>();
    ASSERT_GT(inputs.size(), 1u);
    for (const Numerics numerics : {Numerics::kF32, Numerics::kInt8Rotated}) {
      const auto model = Load(c, numerics);
      ASSERT_NE(model, nullptr);
      AttentionPolicy top_k = AttentionPolicy::Exact();
      top_k.top_k = 8;
      top_k.ffn_top_k = 16;
      const std::vector<Scores> dense = ScoresOf(*model, inputs);
      const std::vector<Scores> together = ScoresOf(*model, inputs, top_k);
      for (size_t i = 0; i < inputs.size(); ++i) {
        const Scores alone = ScoresOf(*model, std::vector<json>{inputs[i]}, top_k)[0];
        EXPECT_EQ(together[i].begins, alone.begins);
        EXPECT_EQ(together[i].ends, alone.ends);
        EXPECT_NE(together[i].begins, dense[i].begins);
      }
    }
  }
}

TEST_F(ReaderGoldenTest, QuestionAndDocumentGiveTheWindow) {
  for (const ReaderCase& c : cases_) {
    SCOPED_TRACE(c.folder.filename());
    const auto model = Load(c, Numerics::kInt8Rotated);
    ASSERT_NE(model, nullptr);
    for (const json& input : c.expected.at("inputs")) {
      const EncoderPrompt frame = model->EncoderPromptOf(input.at("question").get<std::string>());
      const Encoding document =
          model->tokenizer().Encode(c.expected.at("document").get<std::string>(), false);
      std::vector<int32_t> ids = frame.before;
      ids.insert(ids.end(), document.ids.begin(), document.ids.end());
      ids.insert(ids.end(), frame.after.begin(), frame.after.end());
      EXPECT_EQ(ids, input.at("input_ids").get<std::vector<int32_t>>());
      EXPECT_EQ(frame.before.size(), input.at("first_document_token").get<size_t>());
    }
  }
}

// Texts that hold special tokens have a second list: as ordinary text.
TEST_F(ReaderGoldenTest, TokenizerMatches) {
  for (const ReaderCase& c : cases_) {
    SCOPED_TRACE(c.folder.filename());
    const auto model = Load(c, Numerics::kInt8Rotated);
    ASSERT_NE(model, nullptr);
    for (const json& one : c.expected.at("tokenizer").at("strings")) {
      if (!one.contains("text")) continue;
      const std::string text = one.at("text");
      const auto ids = one.at("ids").get<std::vector<int32_t>>();
      EXPECT_EQ(model->tokenizer().Encode(text, /*parse_special=*/true).ids, ids) << one;
      const auto plain =
          one.contains("ids_plain") ? one.at("ids_plain").get<std::vector<int32_t>>() : ids;
      EXPECT_EQ(model->tokenizer().Encode(text, /*parse_special=*/false).ids, plain) << one;
    }
  }
}

}  // namespace
}  // namespace lectern::test
