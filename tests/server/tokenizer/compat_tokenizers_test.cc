// Tokenizers of tests/golden/compat: folders that were once read wrongly.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "server/tokenizer/files/tokenizer_files.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/tokenizer/tokenizer_file_parts.h"
#include "tests/testing/golden.h"

namespace lectern {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> Load(const std::string& name, json& expected) {
  const std::filesystem::path folder = test::FixtureDir() / "compat" / name;
  auto tokenizer = LoadTokenizerFolder(folder, -1);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  expected = json::parse(std::ifstream(folder / "expected.json"));
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

// Where `part` begins in `all`; its size if it does not occur.
size_t Find(const Ids& all, const Ids& part) {
  return std::search(all.begin(), all.end(), part.begin(), part.end()) - all.begin();
}

// The settings of tokenizer_config.json decide where tokenizer.json says otherwise: the case of a
// BERT vocabulary, and whether RoBERTa's texts begin with a space.
TEST(CompatTokenizersTest, SettingsDecide) {
  for (const char* name :
       {"bert-case-in-tokenizer-config", "roberta-prefix-space-in-tokenizer-config"}) {
    SCOPED_TRACE(name);
    json expected;
    const auto tokenizer = Load(name, expected);
    ASSERT_NE(tokenizer, nullptr);
    const Ids ids = expected["input_ids"];
    const Ids question = tokenizer->Encode(expected["question"].get<std::string>(), false).ids;
    const Ids document = tokenizer->Encode(expected["document"].get<std::string>(), false).ids;
    EXPECT_EQ(Find(ids, question), 1u);
    EXPECT_EQ(Find(ids, document), ids.size() - 1 - document.size());
  }
}

TEST(CompatTokenizersTest, TokensThatAreNotSpecialAreFoundInEveryText) {
  json expected;
  const auto tokenizer = Load("llama-chat-tokens-not-special", expected);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->Encode("<|im_start|>", /*parse_special=*/false).ids, Ids{1});
  EXPECT_FALSE(tokenizer->IsSpecial(1));
  std::string text;
  for (const json& message : expected["messages"]) {
    text += "<|im_start|>" + message["role"].get<std::string>() + "\n" +
            message["content"].get<std::string>() + "<|im_end|>\n";
  }
  text += "<|im_start|>assistant\n";
  EXPECT_EQ(tokenizer->Encode(text, /*parse_special=*/true).ids, expected["chat_ids"].get<Ids>());
}

// tokenizer.json and tokenizer_config.json as given, loaded from a folder.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadWith(const json& tokenizer, const json& settings,
                                                    const test::TempFolder& folder = {}) {
  folder.Write("tokenizer.json", tokenizer.dump());
  folder.Write("tokenizer_config.json", settings.dump());
  return LoadTokenizerFolder(folder.path(), -1);
}

TEST(TokenizerSettingsTest, CaseOfBert) {
  const json good = test::WordPieceJson();
  const auto encode = [&](const json& settings) {
    const auto tokenizer = LoadWith(good, settings);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return (*tokenizer)->Encode("AB", false).ids;
  };
  const Ids lower = encode(json::object()), cased = encode({{"do_lower_case", false}});
  EXPECT_NE(lower, cased);
  EXPECT_EQ(encode({{"do_lower_case", true}}), lower);
  EXPECT_EQ(encode({{"do_lower_case", nullptr}}), lower);
  // A class that takes tokenizer.json as it is.
  const json plain = {{"do_lower_case", false}, {"tokenizer_class", "PreTrainedTokenizerFast"}};
  EXPECT_EQ(encode(plain), lower);
}

TEST(TokenizerSettingsTest, BeginToken) {
  json good = test::CharacterBpeJson();
  auto tokenizer = LoadWith(good, json::object());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const bool by_itself = (*tokenizer)->adds_bos();
  EXPECT_TRUE(by_itself);
  const int32_t bos = (*tokenizer)->bos_id();
  tokenizer = LoadWith(good, {{"add_bos_token", false}, {"bos_token", "<s>"}});
  EXPECT_FALSE((*tokenizer)->adds_bos());
  good["post_processor"] = nullptr;
  EXPECT_FALSE((*LoadWith(good, json::object()))->adds_bos());
  for (const json& name : {json("<s>"), json({{"content", "<s>"}})}) {
    tokenizer = LoadWith(good, {{"add_bos_token", true}, {"bos_token", name}});
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_TRUE((*tokenizer)->adds_bos());
    EXPECT_EQ((*tokenizer)->bos_id(), bos);
  }
  EXPECT_FALSE((*LoadWith(good, {{"add_bos_token", true}, {"bos_token", nullptr}}))->adds_bos());
}

TEST(TokenizerSettingsTest, DamagedValuesAreRefusedByName) {
  const auto expect = [](const json& tokenizer, const json& settings, const char* named) {
    SCOPED_TRACE(settings.dump());
    const test::TempFolder folder;
    test::ExpectRefused(LoadWith(tokenizer, settings, folder).status(),
                        absl::StatusCode::kInvalidArgument, folder.path("tokenizer_config.json"),
                        named, "");
  };
  expect(test::WordPieceJson(), {{"do_lower_case", "yes"}}, "'do_lower_case'");
  expect(test::WordPieceJson(), {{"strip_accents", 1}}, "'strip_accents'");
  expect(test::CharacterBpeJson(), {{"add_bos_token", "yes"}}, "'add_bos_token'");
  expect(test::CharacterBpeJson(), {{"add_bos_token", true}, {"bos_token", "<none>"}},
         "'bos_token'");
  expect(test::CharacterBpeJson(), json::array(), "not an object");
}

}  // namespace
}  // namespace lectern
