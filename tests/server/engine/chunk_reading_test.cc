// Tests of reading in chunks: the index of words, the choice of chunks, the second reading, and all
// of it through the engine.
#include "server/engine/answering/chunk_reading.h"

#include "tests/server/engine/engine_fixture.h"

namespace lectern {
namespace {

std::shared_ptr<const DocumentContent> Content(const std::string& text, int64_t window) {
  FakeModelOptions options;
  options.context_length = window;
  return PrepareContent(std::make_shared<FakeModel>(options), text, "sha");
}

TEST(LexicalIndexTest, RareWordsOfTheQuestionDecide) {
  const LexicalIndex index(
      {"the cat sat on the mat", "the dog and the pump", "The PUMP of the mill"});
  const auto scores = index.Scores("Where was the mill's pump?");
  ASSERT_EQ(scores.size(), 3u);
  EXPECT_GT(scores[2], scores[1]);
  EXPECT_GT(scores[1], scores[0]);
  EXPECT_EQ(index.Scores("zebra ?!"), std::vector<double>(3, 0.0));
  EXPECT_TRUE(LexicalIndex({}).Scores("x").empty());
}

TEST(LexicalIndexTest, WordsCountByTheirStems) {
  const LexicalIndex index({"The valve failed at noon.", "The wheel of the mill was painted."});
  const auto scores = index.Scores("When do valves fail?");
  EXPECT_GT(scores[0], 0);
  EXPECT_EQ(scores[1], 0) << "it shares function words only";
}

TEST(LexicalIndexTest, RareWordsWeighMore) {
  std::string filler;
  for (int i = 0; i < 40; ++i) filler += "The long day ended. ";
  const LexicalIndex index({filler, "A ferry left."});
  EXPECT_GT(index.Rarity("zeppelin"), index.Rarity("ferri"));
  EXPECT_GT(index.Rarity("ferri"), index.Rarity("day"));
  EXPECT_GT(index.Rarity("day"), 0);
  EXPECT_GT(LexicalIndex({"A ferry left."}).Rarity("ferri"), 1) << "in a single sentence, too";
}

TEST(LexicalIndexTest, WordsOfOtherScriptsCount) {
  const LexicalIndex index({"\xd0\xba\xd0\xbe\xd1\x82", "\xd0\xbf\xd1\x91\xd1\x81"});
  const auto scores = index.Scores("\xd0\xba\xd0\xbe\xd1\x82?");
  EXPECT_GT(scores[0], 0);
  EXPECT_EQ(scores[1], 0);
}

TEST(ChunksTest, CoverAllTokensAndEndWithSentences) {
  const auto content = Content(Text(40), 300);
  ASSERT_GT(content->chunks.size(), 3u);
  size_t at = 0;
  for (const TokenRange& chunk : content->chunks) {
    EXPECT_EQ(chunk.begin, at);
    EXPECT_LE(chunk.size(), 150u);
    at = chunk.end;
    // A token of the fake model is a byte.
    EXPECT_TRUE(content->text[at - 1] == '.' || at == content->text.size());
    EXPECT_EQ(ChunkOf(*content, chunk.begin), ChunkOf(*content, chunk.end - 1));
  }
  EXPECT_EQ(at, content->encoding.ids.size());
}

TEST(ChunksTest, ASentenceWithoutEndIsCut) {
  const auto content = Content(std::string(1000, 'x'), 200);
  for (const TokenRange& chunk : content->chunks) EXPECT_LE(chunk.size(), 100u);
  EXPECT_EQ(content->chunks.back().end, 1000u);
}

TEST(ChunksTest, TheLikelyOnesWhenThereAreTooMany) {
  std::string text = Text(80);
  text += "The zeppelin was blue. " + Text(80);
  const auto content = Content(text, 300);
  ASSERT_GT(content->chunks.size(), kMaxCandidates);
  const auto chosen = ChooseCandidates(*content, "Which colour had the zeppelin?", 3);
  EXPECT_EQ(chosen.size(), 3u);
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  EXPECT_THAT(chosen, testing::Contains(ChunkOf(*content, text.find("zeppelin"))));
}

TEST(SecondReadingTest, TheBestInTheOrderOfTheText) {
  const auto content = Content("One. Two. Three. Four. Five. Six. Seven.", 4096);
  // The sentences by rank, with the attention to each.
  const auto read = [&](const std::vector<std::pair<size_t, double>>& ranked) {
    Evidence evidence;
    evidence.shares.resize(content->sentences.size());
    for (const auto& [sentence, share] : ranked) {
      evidence.shares[sentence] = share;
      if (evidence.spans.size() == kSecondReadingSentences) continue;
      evidence.spans.push_back({.begin_byte = content->sentences[sentence].begin,
                                .end_byte = content->sentences[sentence].end,
                                .attention = share});
    }
    return SecondReading(*content, evidence);
  };
  EXPECT_EQ(read({{4, 0.3}, {0, 0.2}, {1, 0.1}}), "One. Two. Five.");
  EXPECT_EQ(read({{4, 0.3}, {0, 0.2}, {6, 0.1}, {2, 0.09}}), "One. Five. Seven.");
  EXPECT_EQ(read({{4, 0.3}, {0, 0.2}, {6, 0.1}, {1, 0.06}, {5, 0.05}}), "One. Two. Five. Seven.")
      << "Two follows and has a fifth of the best, Six has less";
  EXPECT_EQ(read({{4, 0.9}, {0, 0.2}, {5, 0.2}}), "Five.") << "it dominates";
  EXPECT_EQ(read({{6, 0.5}}), "Seven.");
  EXPECT_EQ(read({}), "");
}

class ChunkedEngineTest : public EngineTest {
 protected:
  ChunkedEngineTest() {
    model_options_.context_length = 300;
    options_.kv_bytes = 1 << 23;
  }
  std::string text_ = Text(12) + "The pump Z7 failed at noon. " + Text(12);
};

TEST_F(ChunkedEngineTest, FindsTheSentenceAndAnswersFromIt) {
  Start();
  const DocumentInfo document = Upload(text_);
  EXPECT_EQ(document.reading, ReadingMode::kChunks);
  EXPECT_GT(document.chunks, 3u);
  const uint64_t held = IdleBytes();
  EXPECT_EQ(held, document.device_bytes);
  const Running running =
      StartAsk({.document_id = document.id, .question = "what of Z?", .max_new_tokens = 30});
  const Answer& answer = running.sink->TheAnswer();
  EXPECT_EQ(answer.reading, ReadingMode::kChunks);
  ASSERT_FALSE(answer.evidence.empty());
  const EvidenceSpan& best = answer.evidence[0];
  EXPECT_EQ(best.text, "The pump Z7 failed at noon.");
  EXPECT_EQ(text_.substr(best.begin_byte, best.end_byte - best.begin_byte), best.text);
  EXPECT_EQ(best.chunk, ChunkOf(*Content(text_, 300), best.begin_byte));
  EXPECT_EQ(answer.considered_ratio, 1);
  EXPECT_THAT(running.sink->stages, testing::Contains(AskStage::kSearch));
  EXPECT_EQ(running.sink->totals.at(AskStage::kSearch), document.chunks) << "all are candidates";
  const auto content = Content(text_, 300);
  EXPECT_EQ(answer.text, FakeModel::DefaultAnswer(
                             SecondReading(*content, {.spans = answer.evidence}), "what of Z?"));
  EXPECT_EQ(IdleBytes(), held) << "pages of the search are free again";
}

TEST_F(ChunkedEngineTest, LongerThanTheWindowIsNoLimit) {
  Start();
  const std::string text = Text(300);
  const DocumentInfo document = Upload(text);
  EXPECT_EQ(document.tokens, text.size());
  const Answer answer =
      Ask({.document_id = document.id, .question = "Which 17?", .max_new_tokens = 30});
  EXPECT_LT(answer.considered_ratio, 1) << "more chunks than are asked";
  EXPECT_GT(answer.considered_ratio, 0);
  const absl::Status whole =
      AskRefused({.document_id = document.id, .question = "Q?", .reading = ReadingMode::kWhole});
  EXPECT_EQ(ReasonOf(whole), "DOCUMENT_TOO_LONG");
}

TEST_F(ChunkedEngineTest, ReadAnotherWayOnRequest) {
  model_options_.context_length = 1000;
  Start();
  const DocumentInfo document = Upload(text_);
  EXPECT_EQ(document.reading, ReadingMode::kChunks);
  const Answer whole = Ask({.document_id = document.id,
                            .question = "what of Z?",
                            .reading = ReadingMode::kWhole,
                            .max_new_tokens = 30});
  EXPECT_EQ(whole.reading, ReadingMode::kWhole);
  EXPECT_EQ(whole.text, FakeModel::DefaultAnswer(text_, "what of Z?"));
}

TEST_F(ChunkedEngineTest, AQuestionLongerThanTheRestOfTheWindow) {
  Start();
  const DocumentInfo document = Upload(text_);
  const absl::Status refused =
      AskRefused({.document_id = document.id, .question = std::string(200, 'q')});
  EXPECT_EQ(ReasonOf(refused), "QUESTION_TOO_LONG");
  const ErrorDetails details = GetErrorDetails(refused);
  ASSERT_EQ(details.field_violations.size(), 1u);
  EXPECT_EQ(details.field_violations[0].field, "question");
  const uint64_t limit = std::stoull(details.metadata.at("limit"));
  const uint64_t rest = std::stoull(details.metadata.at("document_tokens")) +
                        std::stoull(details.metadata.at("answer_tokens"));
  EXPECT_THAT(details.field_violations[0].description,
              ::testing::HasSubstr("at most " + std::to_string(limit - rest) + " tokens"));
}

}  // namespace
}  // namespace lectern
