#include "server/model/prompt/model_prompt.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/model/prompt/chat_template.h"

namespace lectern {
namespace {

// Tokens that end a turn in models whose file does not list them (llama.cpp, src/llama-vocab.cpp).
constexpr std::string_view kEndTexts[] = {
    "<|eot_id|>",    "<|im_end|>",      "<|end|>",    "<end_of_turn>",
    "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "</s>",
    "<eos>",         "<EOT>",           "_<EOT>",     "<｜end▁of▁sentence｜>",
};

void ChooseFormat(const ChatSettings& settings, const std::optional<PromptFormat>& chosen,
                  const Tokenizer& tokenizer, ModelPrompt& prompt) {
  if (chosen) {
    prompt.format = *chosen;
    prompt.reason = "set by --prompt_format";
    return;
  }
  if (settings.chat_template.empty()) {
    prompt.format = CompletionFormat();
    prompt.reason = "the model has no chat template";
    return;
  }
  if (std::optional<PromptFormat> known = RecogniseChatTemplate(settings.chat_template)) {
    prompt.format = *std::move(known);
    prompt.reason = absl::StrCat("recognised in ", settings.template_source);
    return;
  }
  prompt.guessed = true;
  const bool chatml = tokenizer.FindToken("<|im_start|>") >= 0;
  prompt.format = chatml ? *FindPromptFormat("chatml") : CompletionFormat();
  prompt.reason = absl::StrCat("the template in ", settings.template_source, " is not known, and ",
                               chatml ? "<|im_start|> is a token" : "<|im_start|> is not a token");
}

// The text of `id`.
std::string TextOf(const Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? "" : tokenizer.Decode({id}, /*skip_special=*/false);
}

}  // namespace

ModelPrompt ChooseModelPrompt(const ChatSettings& settings,
                              const std::optional<PromptFormat>& chosen, const Tokenizer& tokenizer,
                              int32_t config_bos, std::span<const int32_t> config_end_ids) {
  ModelPrompt prompt;
  ChooseFormat(settings, chosen, tokenizer, prompt);

  std::vector<int32_t>& ends = prompt.end_ids;
  const auto add = [&](int32_t id) {
    if (id >= 0 && id < tokenizer.vocab_size()) ends.push_back(id);
  };
  for (const int32_t id : config_end_ids) add(id);
  for (const int32_t id : settings.end_ids) add(id);
  add(tokenizer.FindToken(settings.eos_token));
  prompt.end_of_sequence = !settings.eos_token.empty()
                               ? settings.eos_token
                               : TextOf(tokenizer, ends.empty() ? -1 : ends[0]);
  if (settings.end_tokens_by_text) {
    for (const std::string_view text : kEndTexts) add(tokenizer.FindToken(text));
  }
  const std::string end_of_turn =
      absl::StrReplaceAll(prompt.format.end_of_turn, {{"{eos}", prompt.end_of_sequence}});
  const int32_t turn = tokenizer.FindToken(end_of_turn);
  add(turn);
  // The text of an ordinary token may also be written as several others.
  if (turn < 0 || !tokenizer.IsSpecial(turn)) prompt.end_text = end_of_turn;
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());

  if (prompt.format.bos || tokenizer.adds_bos()) {
    prompt.bos = tokenizer.bos_id();
    if (prompt.bos < 0) prompt.bos = tokenizer.FindToken(settings.bos_token);
    if (prompt.bos < 0) prompt.bos = settings.bos_id;
    if (prompt.bos < 0) prompt.bos = config_bos;
  }
  return prompt;
}

void DescribePrompt(const ModelPrompt& prompt, ModelInfo& info) {
  info.prompt_format = prompt.format.name;
  info.prompt_format_reason = prompt.reason;
  info.prompt_format_guessed = prompt.guessed;
  info.end_ids = prompt.end_ids;
  info.end_text = prompt.end_text;
}

}  // namespace lectern
