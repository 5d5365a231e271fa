// Which chat templates are recognised, and the spellings that mean the same.
#include "server/model/prompt/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "server/model/prompt/known_formats.h"

namespace lectern {
namespace {

std::string NameOf(std::string_view jinja) {
  const auto format = RecogniseChatTemplate(jinja);
  return format ? format->name : "unknown";
}

constexpr char kTurns[] =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + "
    "'<|im_end|>\\n' }}{% endfor %}";

TEST(TemplateTextTest, DecodesLiteralsAndJoinsThem) {
  EXPECT_EQ(TemplateText("{{ 'a\\n' + \"b'\" ~ '\\'c' }}"),
            " \x1e"
            "a\nb''c\x1e");
  EXPECT_EQ(TemplateText("{{ x + 'a' + y }}"),
            " x+\x1e"
            "a\x1e+y");
}

TEST(TemplateTextTest, AttributesHaveOneSpelling) {
  const std::string want = " message.content+message.role";
  EXPECT_EQ(TemplateText("{{ message['content'] + message['role'] }}"), want);
  EXPECT_EQ(TemplateText("{{ message.content + message[\"role\"] }}"), want);
}

TEST(TemplateTextTest, TextOutsideTagsCountsAndCommentsDoNot) {
  EXPECT_EQ(TemplateText("{# '<|im_start|>' #}<s>{% if x %}\n{% endif %}"),
            "\x1e<s>\x1e ifx endif");
}

TEST(TemplateTextTest, UnclosedTagsEndWithTheTemplate) {
  for (const char* jinja : {"{", "{%", "{{", "{#", "{%-", "{{ '", "{{ '\\", "{% for", "}}"}) {
    EXPECT_LE(TemplateText(jinja).size(), 8u) << jinja;
  }
}

TEST(ChatTemplateTest, UnknownTemplatesAreNotGuessed) {
  EXPECT_EQ(NameOf(""), "unknown");
  EXPECT_EQ(NameOf("{% for m in messages %}{{ '<|odd|>' + m['content'] }}{% endfor %}"), "unknown");
}

TEST(ChatTemplateTest, TheFormatBeginsWithBosIfTheTemplateWritesIt) {
  EXPECT_FALSE(RecogniseChatTemplate(kTurns)->bos);
  EXPECT_TRUE(RecogniseChatTemplate(std::string("{{ bos_token }}") + kTurns)->bos);
}

// A turn that the template writes when there is no system message.
TEST(ChatTemplateTest, DefaultSystemTurnIsKept) {
  const auto format = RecogniseChatTemplate(
      std::string("{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou\\'re terse."
                  "<|im_end|>\\n' }}{% endif %}") +
      kTurns);
  ASSERT_TRUE(format.has_value());
  EXPECT_EQ(FrameOf(*format, std::nullopt, "").before,
            "<|im_start|>system\nYou're terse.<|im_end|>\n<|im_start|>user\n");
  EXPECT_EQ(FrameOf(*format, "Hi", "").before,
            "<|im_start|>system\nHi<|im_end|>\n<|im_start|>user\n");
}

// A system turn that is put together from several literals is not one that can be read.
TEST(ChatTemplateTest, PartsOfASystemTurnAreNoDefault) {
  const auto format = RecogniseChatTemplate(
      std::string("{{ '<|im_start|>system\\n' + text + '<|im_end|>\\n' }}") + kTurns);
  ASSERT_TRUE(format.has_value());
  EXPECT_EQ(format->no_system, "");
}

TEST(KnownFormatsTest, NamesAreDifferent) {
  std::vector<std::string> names = PromptFormatNames();
  EXPECT_GE(names.size(), 20u);
  std::ranges::sort(names);
  EXPECT_TRUE(std::ranges::adjacent_find(names) == names.end());
}

// The time that a hostile template can take is linear in its length.
TEST(ChatTemplateTest, RepeatedMarksTakeLinearTime) {
  std::string jinja = "{{ '<|im_start|><|im_end|>";
  while (jinja.size() < (4u << 20)) jinja += "<|im_start|>system\\n";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(NameOf(jinja + "' }}"), "chatml");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace lectern
