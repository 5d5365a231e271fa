// golden/decoders: prompts as jinja2 renders them, their token ids and the end tokens, for every
// case and for every format of formats.json.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "absl/strings/str_replace.h"
#include "server/model/prompt/chat_settings.h"
#include "server/model/prompt/chat_template.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path Folder() { return GoldenDir() / "decoders"; }

// Python writes an infinite number as a word that JSON lacks.
json ReadJson(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return json::parse(absl::StrReplaceAll(text.str(), {{": Infinity", ": null"}}));
}

// Cases that have an expected.json with end tokens: decoders.
std::vector<std::string> DecoderCases() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(Folder(), error)) {
    const fs::path expected = entry.path() / "expected.json";
    if (fs::exists(expected) && ReadJson(expected).contains("end_token_ids")) {
      names.push_back(entry.path().filename());
    }
  }
  std::ranges::sort(names);
  return names;
}

// A conversation of golden data.
struct Conversation {
  std::optional<std::string> system;
  std::string user;
};

Conversation ConversationOf(const json& messages) {
  Conversation conversation;
  for (const json& message : messages) {
    const std::string text = message.at("content");
    if (message.at("role") == "system") {
      conversation.system = text;
    } else {
      conversation.user = text;
    }
  }
  return conversation;
}

// Templates think unless they are told not to; the formats never do.
bool IsServed(const json& prompt, const std::string& jinja) {
  return jinja.find("enable_thinking") == std::string::npos || prompt.contains("arguments");
}

TEST(PromptFormatsGoldenTest, EveryFormatRendersAsJinjaDoes) {
  const fs::path path = Folder() / "formats.json";
  LECTERN_REQUIRE_FILE(fs::exists(path), path);
  const json golden = ReadJson(path);
  for (const json& item : golden.at("formats")) {
    const std::string jinja = item.at("template");
    SCOPED_TRACE(item.at("format").get<std::string>());
    const auto format = RecogniseChatTemplate(jinja);
    ASSERT_TRUE(format.has_value());
    for (const json& prompt : item.at("prompts")) {
      if (prompt.at("text").is_null() || !IsServed(prompt, jinja)) continue;
      Conversation c = ConversationOf(golden.at("messages"));
      if (prompt.at("name") == "user") c.system.reset();
      const PromptFrame frame = FrameOf(*format, c.system, "<EOS>");
      EXPECT_EQ((format->bos ? "<BOS>" : "") + frame.before + c.user + frame.after,
                prompt.at("text").get<std::string>());
    }
  }
}

// A real model's template. Prompts have a system message at most, and one of the user.
TEST(PromptFormatsGoldenTest, SmolLm2RendersAsJinjaDoes) {
  const fs::path path = GoldenDir() / "smollm2" / "chat.json";
  LECTERN_REQUIRE_FILE(fs::exists(path), path);
  const json golden = ReadJson(path);
  const auto format = RecogniseChatTemplate(golden.at("template").get<std::string>());
  ASSERT_TRUE(format.has_value());
  int compared = 0;
  for (const json& item : golden.at("cases")) {
    const json& messages = item.at("messages");
    const bool served =
        item.at("add_generation_prompt") && messages.back().at("role") == "user" &&
        (messages.size() == 1 || (messages.size() == 2 && messages[0].at("role") == "system"));
    if (!served) continue;
    const Conversation c = ConversationOf(messages);
    const PromptFrame frame = FrameOf(*format, c.system, "");
    EXPECT_EQ(frame.before + c.user + frame.after, item.at("text").get<std::string>());
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

class PromptCaseTest : public testing::TestWithParam<std::string> {
 protected:
  json expected_ = ReadJson(Folder() / GetParam() / "expected.json");
};

std::string JinjaOf(const fs::path& folder) {
  const auto settings = ReadChatSettings(folder, int64_t{1} << 22);
  return settings.ok() ? settings->chat_template : "";
}

// The text alone: needs no tokenizer.
TEST_P(PromptCaseTest, Text) {
  const json& chat = expected_.at("chat");
  if (chat.is_null()) return;  // a base model
  const fs::path folder = Folder() / GetParam();
  const std::string jinja = JinjaOf(folder);
  const auto format = RecogniseChatTemplate(jinja);
  ASSERT_TRUE(format.has_value()) << jinja;
  const auto settings = ReadChatSettings(folder, int64_t{1} << 22);
  ASSERT_TRUE(settings.ok()) << settings.status();
  for (const json& prompt : chat.at("prompts")) {
    if (!IsServed(prompt, jinja)) continue;
    const Conversation c = ConversationOf(prompt.at("messages"));
    const PromptFrame frame = FrameOf(*format, c.system, settings->eos_token);
    EXPECT_EQ((format->bos ? settings->bos_token : "") + frame.before + c.user + frame.after,
              prompt.at("text").get<std::string>())
        << prompt.at("name");
  }
}

std::string CaseName(const testing::TestParamInfo<std::string>& info) {
  return absl::StrReplaceAll(info.param, {{"-", "_"}, {".", "_"}});
}

INSTANTIATE_TEST_SUITE_P(Decoders, PromptCaseTest, testing::ValuesIn(DecoderCases()), CaseName);

// Without the folder there is no case above.
TEST(PromptFormatsGoldenTest, CasesArePresent) {
  LECTERN_REQUIRE_FILE(!DecoderCases().empty(), Folder());
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PromptCaseTest);

}  // namespace
}  // namespace lectern::test
