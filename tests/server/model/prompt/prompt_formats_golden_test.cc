// golden/decoders: prompts as jinja2 renders them, their token ids and the end tokens, for every
// case and for every format of formats.json.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <sstream>

#include "absl/strings/str_replace.h"
#include "server/formats/tensor_source.h"
#include "server/model/loading/model_loader.h"
#include "server/model/prompt/chat_settings.h"
#include "server/model/prompt/chat_template.h"
#include "server/model/prompt/prompt.h"
#include "tests/server/formats/expect_refused.h"
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

// `path` is the case's folder or one of its GGUF files.
void ExpectPromptIds(const json& expected, const fs::path& folder, const std::string& path,
                     const std::vector<int32_t>& end_ids) {
  SCOPED_TRACE(path);
  const auto model = LoadModel(
      {.name = "m", .path = path, .numerics = ModelLoadOptions::Numerics::kF32, .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.end_ids, end_ids) << info.prompt_format;
  EXPECT_FALSE(info.prompt_format_guessed) << info.prompt_format_reason;
  const json& chat = expected.at("chat");
  if (chat.is_null()) {
    EXPECT_EQ(info.prompt_format, "completion");
    return;
  }
  const std::string jinja = JinjaOf(folder);
  const auto format = RecogniseChatTemplate(jinja);
  ASSERT_TRUE(format.has_value());
  EXPECT_EQ(info.prompt_format, format->name);
  const Tokenizer& tokenizer = (*model)->tokenizer();
  const json& bos = expected.at("bos");
  const int32_t bos_id = bos.at("rule") == "none" ? -1 : bos.at("id").get<int32_t>();
  const std::vector<int32_t> prefix = (*model)->PromptPrefix();
  if (bos_id >= 0) {
    EXPECT_EQ(prefix.at(0), bos_id);
    EXPECT_EQ(std::ranges::count(prefix, bos_id), 1) << "begin of sequence is written once";
  }
  // The suffix follows the document, so it begins with no word boundary.
  const int32_t boundary = tokenizer.FindToken("\u2581");
  if (boundary >= 0) {
    EXPECT_NE((*model)->PromptSuffix("Why?").ids.at(0), boundary);
  }
  const auto settings = ReadChatSettings(folder, tokenizer.vocab_size());
  for (const json& prompt : chat.at("prompts")) {
    if (!IsServed(prompt, jinja)) continue;
    const Conversation c = ConversationOf(prompt.at("messages"));
    const PromptFrame frame = FrameOf(*format, c.system, settings->eos_token);
    const PromptPart parts[] = {
        {frame.before, /*parse_special=*/true}, {c.user}, {frame.after, /*parse_special=*/true}};
    EXPECT_EQ(WithBos(EncodeParts(tokenizer, parts).ids, bos_id),
              prompt.at("prompt_ids").get<std::vector<int32_t>>())
        << prompt.at("name");
  }
}

TEST_P(PromptCaseTest, IdsAndEndTokensOfTheFolder) {
  const fs::path folder = Folder() / GetParam();
  if (!fs::exists(folder / "model.safetensors") &&
      !fs::exists(folder / "model.safetensors.index.json")) {
    return;  // its weights are in the GGUF file alone
  }
  ExpectPromptIds(expected_, folder, folder, expected_.at("end_token_ids"));
}

// True for files whose tensors are of types that this build reads.
bool IsReadable(const json& gguf) {
  if (!gguf.contains("types")) return true;  // F32
  std::set<std::string_view> readable;
  for (int i = 0; ToString(static_cast<TensorType>(i)) != "unknown"; ++i) {
    readable.insert(ToString(static_cast<TensorType>(i)));
  }
  const auto types = gguf.at("types").items();
  return std::all_of(types.begin(), types.end(),
                     [&](const auto& type) { return readable.contains(type.key()); });
}

TEST_P(PromptCaseTest, IdsAndEndTokensOfGgufFiles) {
  const fs::path folder = Folder() / GetParam();
  if (!expected_.contains("gguf")) return;
  for (const auto& [kind, gguf] : expected_.at("gguf").items()) {
    if (!gguf.is_object() || !IsReadable(gguf)) continue;
    ExpectPromptIds(expected_, folder, folder / gguf.at("files").at(0).get<std::string>(),
                    gguf.at("end_token_ids"));
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

// A template from a file is only searched for texts: whatever damage it has, it is recognised or
// not, and its format can be rendered.
TEST(PromptFormatsGoldenTest, TemplatesWithRandomDamage) {
  const fs::path path = Folder() / "formats.json";
  LECTERN_REQUIRE_FILE(fs::exists(path), path);
  std::mt19937 random(20261201);
  int recognised = 0, templates = 0;
  const json golden = ReadJson(path);
  for (const json& item : golden.at("formats")) {
    const std::string whole = item.at("template");
    ++templates;
    for (int i = 0; i < 200; ++i) {
      const std::string damaged = Damage(whole, random, whole.size());
      EXPECT_LE(TemplateText(damaged).size(), 4 * damaged.size() + 8) << damaged;
      const std::optional<PromptFormat> found = RecogniseChatTemplate(damaged);
      if (!found) continue;
      ++recognised;
      EXPECT_FALSE(found->name.empty());
      FrameOf(*found, "system", "</s>");
    }
  }
  EXPECT_GT(templates, 10);
  EXPECT_GT(recognised, 10 * templates) << "the damage leaves nothing to recognise";
}

}  // namespace
}  // namespace lectern::test
