// Frames of prompt formats, tokens of prompts, and the choice of format and end tokens.
#include "server/model/prompt/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/model/prompt/model_prompt.h"
#include "server/tokenizer/bpe/bpe.h"

namespace lectern {
namespace {

using testing::ElementsAre;

// Every byte is a token, "ab" is one, and the texts given are special.
std::unique_ptr<Tokenizer> MakeTokenizer(const std::vector<std::string>& special) {
  BpeConfig config;
  config.source = "test";
  for (char c = '!'; c <= '~'; ++c) config.tokens.emplace_back(1, c);
  config.tokens.push_back("Ġ");
  config.tokens.push_back("Ċ");
  config.tokens.push_back("ab");
  config.merges = {{"a", "b"}};
  for (const std::string& text : special) {
    config.added.push_back({.text = text, .id = static_cast<int32_t>(config.tokens.size())});
    config.tokens.push_back(text);
  }
  auto tokenizer = NewBpe(std::move(config));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

int32_t IdOf(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.Encode(text, true).ids.at(0);
}

TEST(FrameOfTest, PutsTheSystemMessageInItsPlace) {
  PromptFormat format{.system_begin = "<s>",
                      .system_end = "</s>",
                      .user_begin = "<u>",
                      .user_end = "{eos}",
                      .answer_begin = "<a>",
                      .no_system = "<d>"};
  EXPECT_EQ(FrameOf(format, "S", "E").before, "<s>S</s><u>");
  EXPECT_EQ(FrameOf(format, "", "E").before, "<s></s><u>");
  EXPECT_EQ(FrameOf(format, std::nullopt, "E").before, "<d><u>");
  EXPECT_EQ(FrameOf(format, "S", "E").after, "E<a>");
  format.system = SystemMessage::kInUserTurn;
  EXPECT_EQ(FrameOf(format, "S", "E").before, "<u><s>S</s>");
  format.system = SystemMessage::kLeftOut;
  EXPECT_EQ(FrameOf(format, "S", "E").before, "<u>");
}

TEST(EncodePartsTest, OrdinaryTextMergesAcrossPartsAndIsNotParsed) {
  const auto t = MakeTokenizer({"<x>"});
  const PromptPart parts[] = {{"<x>a", true}, {"b<x>a"}, {"b<x>", true}};
  const Encoding encoded = EncodeParts(*t, parts);
  const int32_t x = IdOf(*t, "<x>");
  const int32_t ab = IdOf(*t, "ab");
  EXPECT_THAT(encoded.ids, ElementsAre(x, ab, IdOf(*t, "<"), IdOf(*t, "x"), IdOf(*t, ">"), ab, x));
  EXPECT_THAT(encoded.begin, ElementsAre(0, 3, 5, 6, 7, 8, 10));
  EXPECT_THAT(encoded.end, ElementsAre(3, 5, 6, 7, 8, 10, 13));
}

TEST(PromptTest, BeginOfSequenceIsWrittenOnce) {
  const auto t = MakeTokenizer({"<s>", "<u>"});
  const int32_t bos = IdOf(*t, "<s>");
  PromptFormat format{.system = SystemMessage::kInUserTurn, .user_begin = "<u>"};
  EXPECT_EQ(Prompt(format, "", -1).Prefix(*t)[0], IdOf(*t, "<u>"));
  EXPECT_EQ(Prompt(format, "", bos).Prefix(*t)[0], bos);
  // The format's own text begins with it.
  format.user_begin = "<s><u>";
  const std::vector<int32_t> ids = Prompt(format, "", bos).Prefix(*t);
  EXPECT_EQ(std::ranges::count(ids, bos), 1);
  EXPECT_EQ(std::ranges::count(Prompt(format, "", bos).Suffix(*t, "Why?").ids, bos), 0);
  EXPECT_NE(Prompt(format, "", bos).FixedText(), Prompt(format, "", -1).FixedText());
}

TEST(PromptTest, TheQuestionsTokensAreMarked) {
  const auto t = MakeTokenizer({"<a>"});
  const Prompt prompt({.user_end = " <a>"});
  const QuestionSuffix suffix = prompt.Suffix(*t, "Why<a>?");
  const std::vector<int32_t> question(suffix.ids.begin() + suffix.question_begin,
                                      suffix.ids.begin() + suffix.question_end);
  EXPECT_EQ(t->Decode(question, false), "Why<a>?");
  EXPECT_EQ(std::ranges::count(question, IdOf(*t, "<a>")), 0) << "a question forges no turn";
  EXPECT_EQ(suffix.ids.back(), IdOf(*t, "<a>"));
}

TEST(ModelPromptTest, TheFormatsOfModelsWithoutAKnownTemplate) {
  const auto plain = MakeTokenizer({});
  const auto chatml = MakeTokenizer({"<|im_start|>", "<|im_end|>"});
  const ChatSettings none;
  const ChatSettings odd{.chat_template = "{{ 'odd' }}", .template_source = "FILE"};

  const ModelPrompt base = ChooseModelPrompt(none, std::nullopt, *chatml, -1, {});
  EXPECT_EQ(base.format.name, "completion");
  EXPECT_FALSE(base.guessed);
  EXPECT_EQ(base.end_text, "\n\nQuestion:");

  const ModelPrompt guess = ChooseModelPrompt(odd, std::nullopt, *chatml, -1, {});
  EXPECT_EQ(guess.format.name, "chatml");
  EXPECT_TRUE(guess.guessed);
  EXPECT_EQ(guess.reason, "the template in FILE is not known, and <|im_start|> is a token");
  EXPECT_EQ(ChooseModelPrompt(odd, std::nullopt, *plain, -1, {}).format.name, "completion");
}

TEST(ModelPromptTest, AFormatThatIsSetWins) {
  const auto t = MakeTokenizer({"<|im_start|>", "<|im_end|>"});
  const ChatSettings settings{.chat_template = "{{ '<|im_start|><|im_end|>' }}"};
  EXPECT_EQ(ChooseModelPrompt(settings, std::nullopt, *t, -1, {}).format.name, "chatml");
  const ModelPrompt set = ChooseModelPrompt(settings, *FindPromptFormat("gemma"), *t, -1, {});
  EXPECT_EQ(set.format.name, "gemma");
  EXPECT_EQ(set.reason, "set by --prompt_format");
}

TEST(ModelPromptTest, EndTokensComeFromAllSources) {
  const auto t = MakeTokenizer({"<1>", "<2>", "<3>", "<|im_end|>", "<|eot_id|>"});
  const auto id = [&](const char* text) { return IdOf(*t, text); };
  ChatSettings settings{.chat_template = "{{ '<|im_start|><|im_end|>' }}",
                        .eos_token = "<3>",
                        .end_ids = {id("<2>")}};
  const std::vector<int32_t> config = {id("<1>")};
  EXPECT_THAT(ChooseModelPrompt(settings, std::nullopt, *t, -1, config).end_ids,
              ElementsAre(id("<1>"), id("<2>"), id("<3>"), id("<|im_end|>")));
  settings.end_tokens_by_text = true;  // as of a GGUF file
  EXPECT_THAT(ChooseModelPrompt(settings, std::nullopt, *t, -1, config).end_ids,
              ElementsAre(id("<1>"), id("<2>"), id("<3>"), id("<|im_end|>"), id("<|eot_id|>")));
}

TEST(ModelPromptTest, AnEndOfTurnThatIsNoTokenEndsAnswersAsText) {
  const auto t = MakeTokenizer({});
  const ChatSettings settings{.chat_template = "{{ '<|im_start|><|im_end|>' }}"};
  const ModelPrompt prompt = ChooseModelPrompt(settings, std::nullopt, *t, -1, {});
  EXPECT_EQ(prompt.end_text, "<|im_end|>");
  EXPECT_TRUE(prompt.end_ids.empty());
}

TEST(ModelPromptTest, BeginOfSequenceComesFromTemplateAndFiles) {
  const auto t = MakeTokenizer({"<s>", "<t>"});
  const int32_t s = IdOf(*t, "<s>");
  const int32_t u = IdOf(*t, "<t>");
  const char turns[] = "{{ '<|im_start|><|im_end|>' }}";
  EXPECT_EQ(
      ChooseModelPrompt({.chat_template = turns, .bos_token = "<s>"}, std::nullopt, *t, u, {}).bos,
      -1);
  const std::string writes = std::string("{{ bos_token }}") + turns;
  EXPECT_EQ(
      ChooseModelPrompt({.chat_template = writes, .bos_token = "<s>"}, std::nullopt, *t, u, {}).bos,
      s);
  EXPECT_EQ(ChooseModelPrompt({.chat_template = writes}, std::nullopt, *t, u, {}).bos, u);
}

}  // namespace
}  // namespace lectern
