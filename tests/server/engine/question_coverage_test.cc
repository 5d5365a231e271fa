// Words, languages, and the share of a question's words that its evidence holds.
#include "server/engine/text/question_coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "server/engine/text/words.h"

namespace lectern {
namespace {

using testing::ElementsAre;

constexpr std::string_view kValve = "At 03:14 the relief valve V-12 failed.";

double Share(std::string_view question, std::string_view document) {
  return QuestionCoverage(LexicalIndex({document}), question, {{document}}).share();
}

TEST(WordsTest, AreRunsOfLettersAndDigitsInLowerCase) {
  EXPECT_THAT(Words("The valve V-12 (03:14) wasn't Tanner's."),
              ElementsAre("the", "valve", "v", "12", "03", "14", "wasn", "t", "tanner", "s"));
  EXPECT_THAT(
      Words(
          "\xe2\x80\x9c\xc3\x89t\xc3\xa9\xe2\x80\x9d \xe2\x80\x94 l\xe2\x80\x99\x65\x61u\xc2\xa0?"),
      ElementsAre("\xc3\xa9t\xc3\xa9", "l", "eau"))
      << "typographic quotes, dashes and spaces are no letters";
  EXPECT_THAT(Words("\xe6\xb0\xb4\xe3\x80\x82\xe7\x81\xab"),
              ElementsAre("\xe6\xb0\xb4", "\xe7\x81\xab"));
  EXPECT_THAT(Words("a\xff\x62"), ElementsAre("a", "b")) << "ill-formed bytes separate words";
  EXPECT_THAT(Words(" ,;!"), ElementsAre());
}

TEST(LanguageTest, IsTheOneWhoseFunctionWordsAreFrequent) {
  const auto name = [](std::string_view text) {
    return std::string(Language::Detect(Words(text)).name());
  };
  EXPECT_EQ(name("The pump of the station was running when the tide came in."), "english");
  EXPECT_EQ(name("Die Pumpe der Station lief, als die Flut kam und das Wasser stieg."), "german");
  EXPECT_EQ(name("La pompe de la station tournait quand la mar\xc3\xa9\x65 est mont\xc3\xa9\x65."),
            "french");
  EXPECT_EQ(
      name("La bomba de la estaci\xc3\xb3n funcionaba cuando subi\xc3\xb3 la marea y el agua."),
      "spanish");
  EXPECT_EQ(name(""), "english");
}

TEST(QuestionCoverageTest, InflectionAndQuestionWordsDoNotCount) {
  EXPECT_EQ(Share("At what time did the relief valve V-12 fail?", kValve), 1.0);
  EXPECT_EQ(Share("When do relief valves fail?", kValve), 1.0);
  EXPECT_EQ(Share("How many pumps does the station have?", "The station has four pumps."), 1.0);
}

TEST(QuestionCoverageTest, WordsThatTheEvidenceLacksCount) {
  EXPECT_EQ(Share("Who painted ships?", kValve), 0.0);
  const double half = Share("Which firm made the valve?", kValve);
  EXPECT_GT(half, 0.2);
  EXPECT_LT(half, 0.5) << "two words of three are missing";
}

TEST(QuestionCoverageTest, QuestionsWithoutContentWords) {
  EXPECT_EQ(Share("What is it?", kValve), 1.0);
  EXPECT_EQ(Share("", kValve), 1.0);
  EXPECT_EQ(Share("What is the name?", kValve), 0.0) << "the type of the answer is all there is";
  EXPECT_EQ(QuestionCoverage(LexicalIndex({}), "ferry", {}).share(), 0.0);
}

TEST(QuestionCoverageTest, RareWordsWeighMore) {
  std::string document;
  for (int i = 0; i < 60; ++i) document += "The pump was running. ";
  const LexicalIndex index({document});
  const std::vector<std::string_view> passages = {"The pump was running."};
  EXPECT_LT(QuestionCoverage(index, "Is the pump turquoise?", passages).share(), 0.3);
}

TEST(QuestionCoverageTest, OtherLanguages) {
  EXPECT_EQ(Share("Um wie viel Uhr versagten die Ventile?",
                  "Um 03:14 Uhr versagte das Ventil in der Halle."),
            1.0);
  EXPECT_EQ(
      Share("Quand les pompes se sont-elles arr\xc3\xaat\xc3\xa9\x65s ?",
            "La pompe s\xe2\x80\x99\x65st arr\xc3\xaat\xc3\xa9\x65 \xc3\xa0 03:14 dans la salle."),
      1.0);
}

TEST(QuestionCoverageTest, AnAnswerWithoutWordsOfTheEvidenceIsDoubtedEarlier) {
  const LexicalIndex index({kValve});
  const std::vector<std::string_view> passages = {kValve};
  const QuestionCoverage coverage(index, "When did the relief valve burst?", passages);
  ASSERT_GT(coverage.share(), 0.5);
  ASSERT_LT(coverage.share(), 0.75);
  EXPECT_FALSE(coverage.IsDoubtful("The relief valve burst at 03:14.", 0.5));
  EXPECT_TRUE(coverage.IsDoubtful("The relief valve burst in January.", 0.5));
  EXPECT_FALSE(coverage.IsDoubtful("The relief valve burst in January.", 0.3));
  EXPECT_TRUE(coverage.IsDoubtful("The relief valve burst at 03:14.", 0.8));
  EXPECT_FALSE(coverage.IsDoubtful("It did.", 0.5)) << "no words of its own";
  EXPECT_FALSE(coverage.IsDoubtful("", 0.5));
}

TEST(QuestionCoverageTest, UnknownEvidenceIsNotDoubted) {
  EXPECT_EQ(QuestionCoverage().share(), 1.0);
  EXPECT_FALSE(QuestionCoverage().IsDoubtful("The valve.", 1.0));
}

}  // namespace
}  // namespace lectern
