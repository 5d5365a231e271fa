// golden/t5_tiny and golden/bert_qa_tiny: every string of the golden files through the tokenizers
// of SentencePiece's unigram model and of BERT's WordPiece: ids, pieces, offsets, decoded text.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "server/base/utf8.h"
#include "server/model/loaders/tokenizer_files.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;

json Golden(const std::string& family) {
  json golden;
  std::ifstream(test::GoldenDir() / family / "tokenizer.json") >> golden;
  return golden;
}

// Ranges ascend, lie inside the text and on its characters.
void ExpectSoundRanges(const std::string& text, const Encoding& e) {
  ASSERT_EQ(e.begin.size(), e.ids.size());
  ASSERT_EQ(e.end.size(), e.ids.size());
  uint32_t last = 0;
  for (size_t i = 0; i < e.ids.size(); ++i) {
    EXPECT_LE(last, e.begin[i]);
    EXPECT_LE(e.begin[i], e.end[i]);
    ASSERT_LE(e.end[i], text.size());
    EXPECT_TRUE(IsUtf8Boundary(text, e.begin[i]));
    EXPECT_TRUE(IsUtf8Boundary(text, e.end[i]));
    last = e.begin[i];
  }
}

TEST(PiecesGoldenTest, Unigram) {
  const auto folder = test::GoldenDir() / "t5_tiny";
  LECTERN_REQUIRE_FILE(std::filesystem::exists(folder / "tokenizer.json"), folder);
  const auto tokenizer = LoadTokenizerFolder(folder / "v1_0", 1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_id(), 1);
  int checked = 0;
  for (const json& c : Golden("t5_tiny")) {
    const std::string text = c.at("text");
    SCOPED_TRACE(text);
    const Encoding got = (*tokenizer)->Encode(text, /*parse_special=*/false);
    EXPECT_EQ(got.ids, c.at("ids").get<std::vector<int32_t>>());
    ExpectSoundRanges(text, got);
    EXPECT_EQ((*tokenizer)->Decode(got.ids, /*skip_special=*/true), c.at("decoded"));
    const auto stream = (*tokenizer)->NewStreamDecoder();
    std::string streamed;
    for (const int32_t id : got.ids) streamed += stream->Append(id);
    EXPECT_EQ(streamed + stream->Finish(), c.at("decoded"));
    ++checked;
  }
  EXPECT_GE(checked, 50);
}

TEST(PiecesGoldenTest, WordPiece) {
  const auto folder = test::GoldenDir() / "bert_qa_tiny";
  LECTERN_REQUIRE_FILE(std::filesystem::exists(folder / "tokenizer.json"), folder);
  const auto tokenizer = LoadTokenizerFolder(folder / "model", -1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  int checked = 0;
  for (const json& c : Golden("bert_qa_tiny")) {
    const std::string text = c.at("text");
    SCOPED_TRACE(text);
    const Encoding got = (*tokenizer)->Encode(text, /*parse_special=*/true);
    EXPECT_EQ(got.ids, c.at("ids").get<std::vector<int32_t>>());
    ExpectSoundRanges(text, got);
    // Of the golden file in code points.
    std::vector<size_t> byte_of = {0};
    for (size_t at = 0; at < text.size();) byte_of.push_back(at += Utf8CharLength(text.substr(at)));
    const auto offsets = c.at("offsets").get<std::vector<std::pair<size_t, size_t>>>();
    ASSERT_EQ(got.ids.size(), offsets.size());
    for (size_t i = 0; i < offsets.size(); ++i) {
      EXPECT_EQ(got.begin[i], byte_of.at(offsets[i].first)) << i;
      EXPECT_EQ(got.end[i], byte_of.at(offsets[i].second)) << i;
    }
    ++checked;
  }
  EXPECT_GE(checked, 30);
}

}  // namespace
}  // namespace lectern
