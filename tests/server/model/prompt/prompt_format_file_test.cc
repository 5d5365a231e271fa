// Prompt formats that users write.
#include "server/model/prompt/prompt_format_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "server/model/prompt/chat_template.h"
#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

using testing::HasSubstr;

constexpr char kWhole[] = R"({
  "system_begin": "<S>", "system_end": "</S>", "user_begin": "<U>", "user_end": "</U>",
  "answer_begin": "<A>", "end_of_turn": "{eos}", "bos": true, "system_in_user_turn": true
})";

TEST(PromptFormatFileTest, ReadsEveryKey) {
  const auto format = ParsePromptFormat(kWhole, "f.json");
  ASSERT_TRUE(format.ok()) << format.status();
  EXPECT_EQ(*format, (PromptFormat{.name = "f.json",
                                   .system = SystemMessage::kInUserTurn,
                                   .system_begin = "<S>",
                                   .system_end = "</S>",
                                   .user_begin = "<U>",
                                   .user_end = "</U>",
                                   .answer_begin = "<A>",
                                   .end_of_turn = "{eos}",
                                   .bos = true}));
}

TEST(PromptFormatFileTest, WithoutSystemTextsTheMessageOpensTheUsersTurn) {
  const auto format = ParsePromptFormat(R"({"user_begin": "U:", "answer_begin": "A:"})", "f");
  ASSERT_TRUE(format.ok()) << format.status();
  EXPECT_EQ(FrameOf(*format, "Be brief.", "").before, "U:Be brief.\n\n");
  EXPECT_FALSE(format->bos);
}

TEST(PromptFormatFileTest, FaultsAreNamed) {
  const struct {
    const char* contents;
    const char* why;
  } cases[] = {
      {"", "f.json"},
      {"[]", "f.json"},
      {R"({"user_begin": "U"})", "key 'answer_begin': is missing"},
      {R"({"answer_begin": "A"})", "key 'user_begin': is missing"},
      {R"({"user_begin": 1, "answer_begin": "A"})", "key 'user_begin': must be a string"},
      {R"({"user_begin": "U", "answer_begin": "A", "bos": 1})", "key 'bos': must be true or false"},
      {R"({"user_begin": "U", "answer_begin": "A", "user": ""})",
       "key 'user': is not a key of a prompt format"},
      {R"({"user_begin": "U", "user_begin": "V", "answer_begin": "A"})", "user_begin"},
  };
  for (const auto& c : cases) {
    const auto format = ParsePromptFormat(c.contents, "f.json");
    EXPECT_EQ(format.status().code(), absl::StatusCode::kInvalidArgument) << c.contents;
    EXPECT_THAT(std::string(format.status().message()), HasSubstr(c.why));
  }
  const std::string large = R"({"answer_begin": "A", "user_begin": ")" + std::string(70'000, 'x');
  EXPECT_THAT(std::string(ParsePromptFormat(large + "\"}", "f").status().message()),
              HasSubstr("65536 at most"));
}

TEST(PromptFormatFileTest, ANameComesBeforeAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/own.json";
  std::ofstream(path) << kWhole;
  EXPECT_EQ(ReadPromptFormat("gemma")->name, "gemma");
  EXPECT_EQ(ReadPromptFormat(path)->name, path);
  const auto neither = ReadPromptFormat(folder.path());
  EXPECT_THAT(std::string(neither.status().message()),
              HasSubstr("is neither a file nor a prompt format"));
}

// Bytes of a text replaced, removed and repeated at random.
std::string Mutate(std::string text, std::mt19937& random) {
  const int changes = 1 + static_cast<int>(random() % 8);
  for (int i = 0; i < changes && !text.empty(); ++i) {
    const size_t at = random() % text.size();
    const size_t length = std::min<size_t>(random() % 9, text.size() - at);
    switch (random() % 3) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, length);
        break;
      default:
        text.insert(random() % text.size(), text.substr(at, length));
    }
  }
  return text;
}

// Damaged formats and templates are refused or read, and never do anything else.
TEST(PromptFormatFuzzTest, MutatedFilesAndTemplates) {
  const std::string templates[] = {
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + "
      "'<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>system\\nHi<|im_end|>\\n' }}",
      "{# c #}{{- bos_token ~ \"[INST] \" }} text {%- if x -%}{{ '[/INST]' }}{% endif %}",
  };
  std::mt19937 random(20);
  int read = 0;
  int recognised = 0;
  constexpr int kRounds = 20'000;
  for (int i = 0; i < kRounds; ++i) {
    const auto format = ParsePromptFormat(Mutate(kWhole, random), "f");
    if (format.ok()) {
      ++read;
      const PromptFrame frame = FrameOf(*format, "S", "E");
      EXPECT_LE(frame.before.size() + frame.after.size(), 1000u);
    } else {
      EXPECT_EQ(format.status().code(), absl::StatusCode::kInvalidArgument) << format.status();
    }
    const std::string jinja = Mutate(templates[i % 2], random);
    EXPECT_LE(TemplateText(jinja).size(), 3 * jinja.size() + 8);
    if (RecogniseChatTemplate(jinja)) ++recognised;
  }
  EXPECT_GT(read, 0);
  EXPECT_LT(read, kRounds);
  EXPECT_GT(recognised, 0);
  EXPECT_LT(recognised, kRounds);
}

}  // namespace
}  // namespace lectern
