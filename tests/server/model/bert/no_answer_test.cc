// Which readers may find no answer: by flag, and by the names under which readers are published.
#include "server/model/bert/no_answer.h"

#include <gtest/gtest.h>

namespace lectern {
namespace {

std::optional<double> Of(const std::string& path, std::string_view trained_from = "") {
  return NoAnswerThreshold({}, path, trained_from);
}

TEST(NoAnswerTest, TheNameOfTheFolderDecides) {
  for (const char* path :
       {"roberta-base-squad2", "/models/deepset/xlm-roberta-large-squad2/", "electra_squadv2",
        "bert-squad-v2", "albert_SQuAD_2.0", "bert-finetuned-squad-v2-distilled", "my-reader",
        "/data/squad/my-reader", "./reader", "squad1-then-squad2"}) {
    EXPECT_EQ(Of(path), 0) << path;
  }
  for (const char* path :
       {"distilbert-base-cased-distilled-squad", "mobilebert-uncased-squad-v1",
        "bert-large-uncased-whole-word-masking-finetuned-SQuAD/", "squad1.1-bert"}) {
    EXPECT_EQ(Of(path), std::nullopt) << path;
  }
}

TEST(NoAnswerTest, SnapshotsOfTheHubHaveTheirModelsName) {
  const std::string hub = "/cache/hub/models--";
  EXPECT_EQ(Of(hub + "distilbert--distilbert-base-cased-distilled-squad/snapshots/564e9b5"),
            std::nullopt);
  EXPECT_EQ(Of(hub + "deepset--roberta-base-squad2/snapshots/adc3b06/"), 0);
}

TEST(NoAnswerTest, TheConfigurationMayNameTheModel) {
  EXPECT_EQ(Of("reader", "distilbert-base-uncased-distilled-squad"), std::nullopt);
  EXPECT_EQ(Of("reader", "deepset/bert-base-cased-squad2"), 0);
  EXPECT_EQ(Of("reader", "/data/squad/output/checkpoint-500"), 0);
  // Trained on SQuAD 1 first, then on SQuAD 2.
  EXPECT_EQ(Of("reader-squad2", "distilbert-base-uncased-distilled-squad"), 0);
}

TEST(NoAnswerTest, SettingsWin) {
  ModelSettings settings;
  settings.no_answer = ModelSettings::NoAnswer{};
  EXPECT_EQ(NoAnswerThreshold(settings, "roberta-base-squad2", ""), std::nullopt);
  settings.no_answer->threshold = -1.5;
  EXPECT_EQ(NoAnswerThreshold(settings, "distilled-squad", ""), -1.5);
}

}  // namespace
}  // namespace lectern
