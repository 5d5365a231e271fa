// Which chat templates are recognised, and that the layout Jinja would print is not overlooked.
#include "server/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_details.h"

namespace lectern {
namespace {

TEST(ChatTemplateTest, UnknownTemplatesAreNamedNotGuessed) {
  const auto unknown = RecogniseChatTemplate("{{ bos_token }}{% for m in messages %}\n[INST]...");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(unknown.status().message()), testing::HasSubstr("{{ bos_token }}"));
  EXPECT_EQ(GetErrorDetails(unknown.status()).reason, "MODEL_UNSUPPORTED");
  EXPECT_FALSE(RecogniseChatTemplate("").ok());
}

TEST(ChatTemplateTest, PlainChatMlHasNoDefaultSystemMessage) {
  const auto chat = RecogniseChatTemplate(
      "{%- for message in messages -%}\n{{ '<|im_start|>' + message[\"role\"] + '\\n' + "
      "message['content'] + '<|im_end|>' + '\\n' }}\n{%- endfor -%}\n"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ((*chat)->Render({{"user", "Hi"}}, true),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

constexpr char kChat[] =
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>assistant\n";

std::string RenderChat(std::string_view jinja) {
  const auto chat = RecogniseChatTemplate(jinja);
  if (!chat.ok()) return "refused: " + std::string(chat.status().message());
  return (*chat)->Render({{"user", "Hi"}, {"assistant", "Yo"}}, true);
}

// Each renders to the same text under Jinja 3.1 with trim_blocks and lstrip_blocks.
TEST(ChatTemplateTest, SpellingsOfTheSameTemplate) {
  const std::string loop = "{% for message in messages %}";
  const std::string turn =
      "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}";
  const std::string end = "{% endfor %}";
  const std::string prompt =
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  for (const std::string& jinja :
       {loop + turn + end + prompt,
        // Attributes, joined literals, double quotes, a line break in a literal.
        loop +
            "{{\"<|im_start|>\" + message.role + \"\n\" + message.content + \"<|im_end|>\\n\"}}" +
            end + prompt,
        // A default for the flag.
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
        "{% endif %}" +
            loop + turn + end + prompt,
        // One statement a line, indented: trim_blocks and lstrip_blocks take both.
        loop + "\n" + turn.substr(0, turn.size() - 2) + " -}}\n  " + end +
            "\n{% if add_generation_prompt %}\n{{- '<|im_start|>assistant\\n' }}{% endif %}\n"}) {
    EXPECT_EQ(RenderChat(jinja), kChat) << jinja;
  }
}

// White space that Jinja would print makes it another template: guessing would change the prompt.
TEST(ChatTemplateTest, PrintedWhiteSpaceIsNotOverlooked) {
  const std::string loop = "{% for message in messages %}";
  const std::string turn =
      "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'}}";
  const std::string end = "{% endfor %}";
  const std::string prompt =
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  ASSERT_EQ(RenderChat(loop + turn + end + prompt), kChat);
  for (const std::string& jinja :
       {loop + turn + "\n" + end + prompt, loop + "  " + turn + end + prompt,
        loop + "\n\n" + turn + end + prompt, loop + turn + end + " " + prompt,
        loop + turn + end + prompt + " ", loop + turn + end + prompt + "\n\n\n",
        loop + turn + end + prompt + "x", loop + turn + "{# c #}" + end + prompt,
        " {{ '' }}" + loop + turn + end + prompt}) {
    EXPECT_THAT(RenderChat(jinja), testing::StartsWith("refused")) << jinja;
  }
}

// A minus sign in code is not the one that trims.
TEST(ChatTemplateTest, OperatorsAreKept) {
  EXPECT_THAT(RenderChat("{% for message in mess-ages %}{{'<|im_start|>' + message['role'] + '\\n' "
                         "+ message['content'] + '<|im_end|>\\n'}}{% endfor %}{% if "
                         "add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"),
              testing::StartsWith("refused"));
}

TEST(ChatTemplateTest, MessagesShowTheFirstLineEscapedAndShort) {
  const auto unknown = RecogniseChatTemplate("\n\n {{ \x1b[31m\xff }}" + std::string(500, 'x'));
  const std::string message(unknown.status().message());
  EXPECT_THAT(message, testing::HasSubstr("{{ \\x1b[31m\\xff }}xxx"));
  EXPECT_LT(message.size(), 250u);
}

TEST(ChatTemplateTest, BrokenTemplatesAreRefused) {
  for (const char* jinja :
       {"{", "{%", "{{", "{%-", "{{ '", "{{ '\\", "{% for", "{{ \"a' }}", "}}"}) {
    EXPECT_THAT(RenderChat(jinja), testing::StartsWith("refused")) << jinja;
  }
}

}  // namespace
}  // namespace lectern
