// Tests of windows and spans, by hand and on golden/bert_qa_tiny, whose scores must give its
// answers.
#include "server/engine/answering/strategies/answer_spans.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/testing/golden.h"

namespace lectern {
namespace {

TEST(WindowsTest, SlideOverTheWholeRange) {
  const auto windows = [](size_t begin, size_t end, size_t room, size_t overlap) {
    std::vector<std::pair<size_t, size_t>> pairs;
    for (const TokenRange& w : SlideWindows({begin, end}, room, overlap)) {
      pairs.emplace_back(w.begin, w.end);
    }
    return pairs;
  };
  using Pairs = std::vector<std::pair<size_t, size_t>>;
  EXPECT_EQ(windows(0, 5, 10, 3), (Pairs{{0, 5}}));
  EXPECT_EQ(windows(0, 10, 10, 3), (Pairs{{0, 10}}));
  EXPECT_EQ(windows(4, 21, 10, 3), (Pairs{{4, 14}, {11, 21}}));
  EXPECT_EQ(windows(0, 18, 10, 3), (Pairs{{0, 10}, {7, 17}, {14, 18}}));
}

TEST(WindowsTest, LeavesOutWhatIsNoAnswer) {
  // Positions 0 and 1 are the frame, 2 to 5 the document's tokens 10 to 13, 6 the end.
  WindowScores w{.document = {10, 14},
                 .document_begin = 2,
                 .begins = {9, 9, 1, 5, 0, 4, 9},
                 .ends = {9, 9, 3, 0, 2, 1, 9}};
  const auto spans = BestSpans({&w, 1});
  ASSERT_FALSE(spans.empty());
  EXPECT_EQ(spans[0].tokens, (TokenRange{11, 13}));  // 5 + 2; 5 + 3 would end before it begins
  EXPECT_DOUBLE_EQ(spans[0].score, 7);
  double total = 0;
  for (const AnswerSpan& span : spans) {
    EXPECT_GE(span.tokens.begin, 10u);
    EXPECT_LE(span.tokens.end, 14u);
    EXPECT_LT(span.tokens.begin, span.tokens.end);
    total += span.probability;
  }
  EXPECT_NEAR(total, 1, 1e-12);
}

TEST(WindowsTest, NoLongerThanTheLongestAnswer) {
  WindowScores w{.document = {0, 40}, .document_begin = 0};
  w.begins.assign(40, 0.0f);
  w.ends.assign(40, 0.0f);
  w.begins[0] = 10;
  w.ends[30] = 10;  // 31 tokens
  w.ends[29] = 9;
  EXPECT_EQ(BestSpans({&w, 1})[0].tokens, (TokenRange{0, 30}));
  EXPECT_TRUE(BestSpans({}).empty());
}

TEST(WindowsTest, GoldenAnswers) {
  const auto cases = test::GoldenCases("bert_qa_tiny");
  LECTERN_REQUIRE_FILE(!cases.empty(), "golden family bert_qa_tiny");
  int checked = 0;
  for (const test::GoldenCase& c : cases) {
    if (!c.params.contains("answers")) continue;
    const test::GoldenTensors data = c.Load();
    const auto& types = data["token_type_ids"].i32;
    const int64_t width = data["input_ids"].shape.at(1), count = data["input_ids"].shape.at(0);
    for (const auto& [variant, answers] : c.params.at("answers").items()) {
      SCOPED_TRACE(c.name + " " + variant);
      std::vector<WindowScores> windows;
      size_t document_end = 0;
      for (int64_t i = 0; i < count; ++i) {
        WindowScores w;
        size_t seen = 0, frame = 0;
        for (int64_t at = i * width; at < (i + 1) * width; ++at) {
          if (data["attention_mask"].u8[at] == 0) continue;
          ++seen;
          frame += types[at] == 0 ? 1 : 0;
          w.begins.push_back(data["start_logits." + variant].f32[at]);
          w.ends.push_back(data["end_logits." + variant].f32[at]);
        }
        const auto begin = static_cast<size_t>(data["window_start"].i32[i]);
        w.document_begin = frame;
        w.document = {begin, begin + seen - frame - 1};  // without the end token
        document_end = w.document.end;
        windows.push_back(std::move(w));
      }
      // These windows equal ours.
      const size_t room = windows[0].document.size();
      const auto ours = SlideWindows({0, document_end}, room, c.params.at("stride"));
      ASSERT_EQ(ours.size(), windows.size());
      for (size_t i = 0; i < ours.size(); ++i) EXPECT_EQ(ours[i], windows[i].document);
      const auto spans = BestSpans(windows);
      const auto& want = answers.at("best");
      ASSERT_GE(spans.size(), want.size());
      EXPECT_EQ(spans[0].window, want[0].at("window").get<size_t>());
      EXPECT_NEAR(spans[0].score, want[0].at("score").get<double>(), 1e-5);
      // In the golden windows padding takes part in the ranking, and pushes out a span here and
      // there; ours have none.
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_GE(spans[i].score, want[i].at("score").get<double>() - 1e-5);
      }
      const WindowScores& best = windows[spans[0].window];
      const size_t at = spans[0].tokens.begin - best.document.begin + best.document_begin;
      EXPECT_EQ(at, want[0].at("start_token").get<size_t>());
      EXPECT_EQ(at + spans[0].tokens.size() - 1, want[0].at("end_token").get<size_t>());
      ++checked;
    }
  }
  EXPECT_GE(checked, 12);
}

TEST(WindowsTest, NullScoreIsTheSmallestOfAllWindows) {
  const WindowScores windows[] = {
      {.document = {0, 2}, .document_begin = 1, .begins = {7, 1, 2}, .ends = {2, 3, 4}},
      {.document = {2, 3}, .document_begin = 1, .begins = {4, 9}, .ends = {4.5, 0}}};
  EXPECT_DOUBLE_EQ(NullScore(windows), 8.5);
}

TEST(WindowsTest, ProbabilitiesMayIncludeNoAnswer) {
  const WindowScores w{
      .document = {0, 2}, .document_begin = 1, .begins = {6, 1, 2}, .ends = {3, 1, 1}};
  const auto alone = BestSpans({&w, 1}), all = BestSpans({&w, 1}, NullScore({&w, 1}));
  ASSERT_EQ(alone.size(), all.size());
  double spans = 0;
  for (const AnswerSpan& span : alone) spans += std::exp(span.score);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].tokens, alone[i].tokens);
    EXPECT_NEAR(alone[i].probability, std::exp(alone[i].score) / spans, 1e-12);
    EXPECT_NEAR(all[i].probability, std::exp(all[i].score) / (spans + std::exp(9.0)), 1e-12);
  }
}

// The readers of tests/golden/decoders: transformers' scores give its best spans and its answers.
TEST(WindowsTest, GoldenNoAnswers) {
  const std::filesystem::path folder = test::GoldenDir() / "decoders";
  LECTERN_REQUIRE_FILE(std::filesystem::exists(folder), folder.string());
  int answered = 0, unanswered = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path() / "expected.json");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    // The files of decoders hold Infinity, which is not JSON.
    if (text.find("\"start_logits\"") == std::string::npos) continue;
    const nlohmann::json expected = nlohmann::json::parse(text);
    for (const nlohmann::json& input : expected.at("inputs")) {
      SCOPED_TRACE(entry.path().filename().string() + ": " + input.at("question").dump());
      const size_t first = input.at("first_document_token");
      const WindowScores window{
          .document = {0, input.at("last_document_token").get<size_t>() + 1 - first},
          .document_begin = first,
          .begins = input.at("start_logits").get<std::vector<float>>(),
          .ends = input.at("end_logits").get<std::vector<float>>()};
      const double null_score = NullScore({&window, 1});
      EXPECT_NEAR(null_score, input.at("null_score").get<double>(), 1e-4);
      const auto spans = BestSpans({&window, 1}, null_score);
      const nlohmann::json& best = input.at("best_spans")[0];
      ASSERT_FALSE(spans.empty());
      EXPECT_NEAR(spans[0].score, best.at("score").get<double>(), 1e-4);
      EXPECT_EQ(spans[0].tokens.begin + first, best.at("start").get<size_t>());
      EXPECT_EQ(spans[0].tokens.end - 1 + first, best.at("end").get<size_t>());
      const bool none = input.at("answer") == "";
      EXPECT_EQ(null_score > spans[0].score, none);
      ++(none ? unanswered : answered);
    }
  }
  EXPECT_GT(answered, 0);
  EXPECT_GT(unanswered, 0);
}

}  // namespace
}  // namespace lectern
