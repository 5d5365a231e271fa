// golden/t5_tiny, golden/bert_qa_tiny and golden/roberta_qa_tiny: every string of the golden files,
// with the tokenizers that the model folders hold.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/server/tokenizer/expect_ranges.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::string Contents(const fs::path& file) {
  std::stringstream contents;
  contents << std::ifstream(file, std::ios::binary).rdbuf();
  return contents.str();
}

// The case of a family that holds strings and their tokens: `key` of its parameters names a file of
// the vocabulary in the model's folder. Null without the family.
std::unique_ptr<test::GoldenCase> TokenizerCase(const std::string& family, const std::string& key) {
  for (const test::GoldenCase& c : test::GoldenCases(family)) {
    if (c.params.contains("strings") && c.params.contains(key)) {
      return std::make_unique<test::GoldenCase>(c);
    }
  }
  return nullptr;
}

TEST(T5TinyTokenizerTest, EncodesAndDecodesEveryString) {
  const auto found = TokenizerCase("t5_tiny", "model_file");
  LECTERN_REQUIRE_FILE(found != nullptr, "golden family t5_tiny");
  const auto& params = found->params;
  const fs::path file = found->folder / params.at("model_file").get<std::string>();
  const auto tokenizer = LoadTokenizerFolder(file.parent_path(), -1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_id(), params.at("eos").get<int32_t>());
  const auto config = ParseSpieceModel(Contents(file), "spiece.model");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pad_id, params.at("pad").get<int32_t>());
  EXPECT_EQ(config->unk_id, params.at("unk").get<int32_t>());
  const json golden = json::parse(Contents(found->path()));
  ASSERT_GT(golden.size(), 0u);
  for (const json& c : golden) {
    const std::string text = c["text"];
    SCOPED_TRACE(text);
    const Encoding e = (*tokenizer)->Encode(text, false);
    ASSERT_EQ(e.ids, c["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ((*tokenizer)->Decode(e.ids, true), c["decoded"].get<std::string>());
    for (size_t i = 0; i < e.ids.size(); ++i) {
      if (e.ids[i] == config->unk_id) continue;  // the golden file has the text that is unknown
      EXPECT_EQ(config->pieces[e.ids[i]].text, c["pieces"][i]);
    }
    test::ExpectSoundRanges(text, e);
    test::ExpectStreamDecodes(**tokenizer, e.ids);
  }
}

TEST(T5TinyTokenizerTest, RangesReachThroughTheCharacterMap) {
  const fs::path folder = test::FixtureDir() / "t5_tiny" / "v1_0";
  const auto tokenizer = LoadTokenizerFolder(folder, -1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  // fi ligature, one half (three characters), full-width A.
  const std::string text = "\xef\xac\x81 \xc2\xbd \xef\xbc\xa1";
  const Encoding e = (*tokenizer)->Encode(text, false);
  EXPECT_EQ((*tokenizer)->Decode(e.ids, true), "fi 1 \xe2\x81\x87 2 A");
  std::vector<std::string> parts;
  for (size_t i = 0; i < e.ids.size(); ++i) {
    parts.push_back(text.substr(e.begin[i], e.end[i] - e.begin[i]));
  }
  EXPECT_EQ(parts, (std::vector<std::string>{"\xef\xac\x81", "\xef\xac\x81", " ", "\xc2\xbd",
                                             "\xc2\xbd", "\xc2\xbd", " ", "\xef\xbc\xa1"}));
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    const std::string odd = test::OddText(random);
    const Encoding encoded = (*tokenizer)->Encode(odd, round % 2 == 0);
    test::ExpectSoundRanges(odd, encoded);
    test::ExpectStreamDecodes(**tokenizer, encoded.ids);
  }
}

TEST(BertQaTinyTokenizerTest, EncodesEveryString) {
  const auto found = TokenizerCase("bert_qa_tiny", "vocab");
  LECTERN_REQUIRE_FILE(found != nullptr, "golden family bert_qa_tiny");
  const fs::path file = found->folder / found->params.at("vocab").get<std::string>();
  const auto tokenizer = LoadTokenizerFolder(file.parent_path(), -1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  // A token's id is its line's number.
  std::ifstream vocabulary(file);
  int32_t id = 0;
  for (std::string token; std::getline(vocabulary, token); ++id) {
    if (token.front() != '[' || token.size() < 3) continue;
    EXPECT_EQ((*tokenizer)->Encode(token, true).ids, std::vector<int32_t>{id}) << token;
  }
  const json golden = json::parse(Contents(found->path()));
  ASSERT_GT(golden.size(), 0u);
  for (const json& c : golden) {
    const std::string text = c["text"];
    SCOPED_TRACE(text);
    std::vector<uint32_t> bytes;  // where each character begins
    for (uint32_t at = 0; at <= text.size(); ++at) {
      if (IsUtf8Boundary(text, at)) bytes.push_back(at);
    }
    const Encoding e = (*tokenizer)->Encode(text, true);
    ASSERT_EQ(e.ids, c["ids"].get<std::vector<int32_t>>());
    for (size_t i = 0; i < e.ids.size(); ++i) {
      EXPECT_EQ((*tokenizer)->Decode({e.ids[i]}, false), c["tokens"][i]);
      EXPECT_EQ(e.begin[i], bytes[c["offsets"][i][0].get<size_t>()]) << i;
      EXPECT_EQ(e.end[i], bytes[c["offsets"][i][1].get<size_t>()]) << i;
    }
    test::ExpectSoundRanges(text, e);
    test::ExpectStreamDecodes(**tokenizer, e.ids);
  }
}

// vocab.json and merges.txt; no tokenizer.json.
TEST(RobertaQaTinyTokenizerTest, EncodesEveryString) {
  const auto found = TokenizerCase("roberta_qa_tiny", "vocab");
  LECTERN_REQUIRE_FILE(found != nullptr, "golden family roberta_qa_tiny");
  const fs::path file = found->folder / found->params.at("vocab").get<std::string>();
  const auto tokenizer = LoadTokenizerFolder(file.parent_path(), -1);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const json vocabulary = json::parse(Contents(file));
  for (const char* token : {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}) {
    EXPECT_EQ((*tokenizer)->Encode(token, true).ids,
              std::vector<int32_t>{vocabulary.at(token).get<int32_t>()})
        << token;
  }
  const json golden = json::parse(Contents(found->path()));
  ASSERT_GT(golden.size(), 0u);
  for (const json& c : golden) {
    const std::string text = c["text"];
    SCOPED_TRACE(text);
    const Encoding e = (*tokenizer)->Encode(text, false);
    EXPECT_EQ(e.ids, c["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ((*tokenizer)->Decode(e.ids, true), text);
    test::ExpectStreamDecodes(**tokenizer, e.ids);
  }
}

}  // namespace
}  // namespace lectern
