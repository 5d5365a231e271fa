// Chooses a model's prompt format and the tokens that end its answers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "server/model/prompt/chat_settings.h"
#include "server/model/prompt/prompt.h"
#include "server/model/prompt/prompt_format.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

struct ModelPrompt {
  PromptFormat format;
  std::string reason;            // why this format, for people
  bool guessed = false;          // the model has a template, but not one that is known
  std::string end_of_sequence;   // text of that token, empty: not known
  int32_t bos = -1;              // begins a prompt; -1: nothing does
  std::vector<int32_t> end_ids;  // ascending; an answer ends at each of them
  std::string end_text;  // also ends an answer: the format's end of turn where it is not a token
};

// `chosen` wins over the template of `settings`. Without either, a model gets CompletionFormat();
// with a template that is not known, ChatML if <|im_start|> is a token, else CompletionFormat().
//
// Begin of sequence is written if the tokenizer adds it or the format has it. `config_bos` and
// `config_end_ids` are those of the model's configuration.
//
// The end ids are those of the configuration, of `settings`, its eos_token, the format's end of
// turn, and for a GGUF file the tokens that llama.cpp ends a turn at for their text.
ModelPrompt ChooseModelPrompt(const ChatSettings& settings,
                              const std::optional<PromptFormat>& chosen, const Tokenizer& tokenizer,
                              int32_t config_bos, std::span<const int32_t> config_end_ids);

// Fills in what ModelInfo says about prompts and end tokens.
void DescribePrompt(const ModelPrompt& prompt, ModelInfo& info);

}  // namespace lectern
