// Reads chat settings of folders, and refuses damaged files.
#include "server/model/prompt/chat_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <tuple>
#include <utility>

#include "server/formats/gguf.h"
#include "tests/server/formats/expect_refused.h"
#include "tests/server/formats/model_files.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ChatSettingsTest : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& contents) {
    std::ofstream(std::filesystem::path(folder_.path()) / name, std::ios::binary) << contents;
  }
  absl::StatusOr<ChatSettings> Read() {
    return ReadChatSettings(std::filesystem::path(folder_.path()), /*vocabulary=*/100);
  }
  ChatSettings ReadOk() {
    auto settings = Read();
    EXPECT_TRUE(settings.ok()) << settings.status();
    return settings.ok() ? *settings : ChatSettings();
  }
  void ExpectInvalid(const std::string& why) {
    const auto settings = Read();
    EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(settings.status().message()), HasSubstr(why));
  }

  TemporaryFolder folder_;
};

TEST_F(ChatSettingsTest, AnEmptyFolderSaysNothing) {
  const ChatSettings settings = ReadOk();
  EXPECT_EQ(settings.chat_template, "");
  EXPECT_EQ(settings.eos_token, "");
  EXPECT_TRUE(settings.end_ids.empty());
}

TEST_F(ChatSettingsTest, TheTemplateFileComesBeforeTokenizerConfig) {
  Write("tokenizer_config.json", R"({"chat_template": "old"})");
  EXPECT_EQ(ReadOk().chat_template, "old");
  EXPECT_EQ(ReadOk().template_source, "tokenizer_config.json");
  Write("chat_template.jinja", "new");
  EXPECT_EQ(ReadOk().chat_template, "new");
  EXPECT_EQ(ReadOk().template_source, "chat_template.jinja");
}

TEST_F(ChatSettingsTest, OfNamedTemplatesTheDefaultIsTaken) {
  Write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "t"},
                              {"name": "default", "template": "d"}]})");
  EXPECT_EQ(ReadOk().chat_template, "d");
  Write("tokenizer_config.json",
        R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "x", "template": "x"}]})");
  EXPECT_EQ(ReadOk().chat_template, "r");
}

TEST_F(ChatSettingsTest, TokensAreTextsOrObjects) {
  Write("tokenizer_config.json",
        R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}})");
  EXPECT_EQ(ReadOk().bos_token, "<s>");
  EXPECT_EQ(ReadOk().eos_token, "</s>");
  Write("tokenizer_config.json", R"({"bos_token": null})");
  EXPECT_EQ(ReadOk().bos_token, "");
}

TEST_F(ChatSettingsTest, EndIdsAreANumberOrAList) {
  Write("generation_config.json", R"({"eos_token_id": 7})");
  EXPECT_THAT(ReadOk().end_ids, ElementsAre(7));
  Write("generation_config.json", R"({"eos_token_id": [9, 0, 99]})");
  EXPECT_THAT(ReadOk().end_ids, ElementsAre(9, 0, 99));
  Write("generation_config.json", R"({"eos_token_id": null})");
  EXPECT_TRUE(ReadOk().end_ids.empty());
}

TEST_F(ChatSettingsTest, RandomDamage) {
  const std::pair<const char*, std::string> files[] = {
      {"tokenizer_config.json",
       R"({"chat_template": [{"name": "default", "template": "{{ bos_token }}"}],)"
       R"( "bos_token": {"content": "<s>"}, "eos_token": "</s>"})"},
      {"generation_config.json", R"({"eos_token_id": [9, 0, 99], "bos_token_id": 1})"},
  };
  std::mt19937 random(20261201);
  for (const auto& [name, whole] : files) {
    int refused = 0;
    for (int i = 0; i < 1000; ++i) {
      Write(name, test::Damage(whole, random, whole.size()));
      const auto settings = Read();
      ASSERT_TRUE(test::IsOkOrRefused(settings.status())) << i << settings.status();
      refused += settings.ok() ? 0 : 1;
    }
    EXPECT_GT(refused, 100) << name;
    Write(name, whole);
    EXPECT_TRUE(Read().ok()) << name;
  }
}

TEST_F(ChatSettingsTest, DamagedFilesAreNamed) {
  const struct {
    const char* file;
    const char* contents;
    const char* why;
  } cases[] = {
      {"tokenizer_config.json", "[]", "tokenizer_config.json"},
      {"tokenizer_config.json", "{", "tokenizer_config.json"},
      {"tokenizer_config.json", R"({"chat_template": 3})", "key 'chat_template': 3"},
      {"tokenizer_config.json", R"({"chat_template": ["x"]})", "key 'chat_template'"},
      {"tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})", "chat_template"},
      {"tokenizer_config.json", R"({"eos_token": 3})", "key 'eos_token': 3"},
      {"tokenizer_config.json", R"({"bos_token": {"text": "x"}})", "key 'bos_token'"},
      {"generation_config.json", R"({"eos_token_id": "</s>"})", "key 'eos_token_id'"},
      {"generation_config.json", R"({"eos_token_id": [1, 2.5]})", "2.5 has the wrong type"},
      {"generation_config.json", R"({"eos_token_id": 100})", "100 is not a token"},
      {"generation_config.json", R"({"eos_token_id": -1})", "-1 is not a token"},
      {"generation_config.json", R"({"eos_token_id": 18446744073709551615})", "is not a token"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.contents);
    Write("tokenizer_config.json", "{}");
    Write("generation_config.json", "{}");
    Write(c.file, c.contents);
    ExpectInvalid(c.why);
  }
}

// Metadata of a small GGUF file, with some keys set.
class GgufChatSettingsTest : public ChatSettingsTest {
 protected:
  absl::StatusOr<ChatSettings> ReadWith(
      const std::vector<std::pair<std::string, std::string>>& keys) {
    test::GgufParts parts = test::LlamaGguf();
    for (const auto& [key, value] : keys) parts.Set(key, value);
    Write("m.gguf", parts.Encode());
    const auto file = GgufFile::Open(folder_.path() + "/m.gguf");
    EXPECT_TRUE(file.ok()) << file.status();
    return ReadChatSettings(**file, /*vocabulary=*/8);
  }
};

TEST_F(GgufChatSettingsTest, EndTokensOfAllKinds) {
  const auto settings = ReadWith({{"tokenizer.ggml.bos_token_id", test::U32(1)},
                                  {"tokenizer.ggml.eos_token_id", test::U32(2)},
                                  {"tokenizer.ggml.eot_token_id", test::U32(5)},
                                  {"tokenizer.ggml.eom_token_id", test::U32(7)},
                                  {"tokenizer.chat_template", test::Text("{{ y }}")}});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->bos_id, 1);
  EXPECT_THAT(settings->end_ids, ElementsAre(2, 5, 7));
  EXPECT_TRUE(settings->end_tokens_by_text);
  EXPECT_EQ(settings->chat_template, "{{ y }}");
  EXPECT_EQ(settings->template_source, "tokenizer.chat_template");
}

TEST_F(GgufChatSettingsTest, DamagedMetadataIsNamed) {
  for (const auto& [key, value, why] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"tokenizer.chat_template", test::U32(1), "is not a string"},
           {"tokenizer.ggml.eot_token_id", test::U32(8), "8 is not a token"},
           {"tokenizer.ggml.eom_token_id", test::I32(-1), "-1 is not a token"},
           {"tokenizer.ggml.eot_token_id", test::Text("x"), "is not an integer"}}) {
    const auto settings = ReadWith({{key, value}});
    EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(settings.status().message()), HasSubstr(key));
    EXPECT_THAT(std::string(settings.status().message()), HasSubstr(why));
  }
}

}  // namespace
}  // namespace lectern
