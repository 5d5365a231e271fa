#include "server/model/prompt/known_formats.h"

#include <string>

namespace lectern {
namespace {

// Ends a literal in TemplateText() (chat_template.h).
#define LITERAL_END "\x1e"

PromptFormat ChatMl(std::string name, std::string answer_begin) {
  return {.name = std::move(name),
          .system_begin = "<|im_start|>system\n",
          .system_end = "<|im_end|>\n",
          .user_begin = "<|im_start|>user\n",
          .user_end = "<|im_end|>\n",
          .answer_begin = "<|im_start|>assistant\n" + std::move(answer_begin),
          .end_of_turn = "<|im_end|>"};
}

PromptFormat SmolLm3() {
  const std::string head =
      "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n"
      "Reasoning Mode: /no_think\n\n## Custom Instructions\n\n";
  PromptFormat format = ChatMl("smollm3", "<think>\n\n</think>\n");
  format.system_begin = head;
  format.system_end = "\n\n<|im_end|>\n";
  format.no_system = head + "<|im_end|>\n";
  return format;
}

PromptFormat Llama3(std::string name, const std::string& head) {
  const std::string begin = "<|start_header_id|>system<|end_header_id|>\n\n" + head;
  return {.name = std::move(name),
          .system_begin = begin,
          .system_end = "<|eot_id|>",
          .user_begin = "<|start_header_id|>user<|end_header_id|>\n\n",
          .user_end = "<|eot_id|>",
          .answer_begin = "<|start_header_id|>assistant<|end_header_id|>\n\n",
          .end_of_turn = "<|eot_id|>",
          .no_system = head.empty() ? "" : begin + "<|eot_id|>",
          .bos = true};
}

// `begin` and `end` surround the user's turn; the system message opens it.
PromptFormat Instruction(std::string name, std::string begin, std::string end) {
  return {.name = std::move(name),
          .system = SystemMessage::kInUserTurn,
          .system_end = "\n\n",
          .user_begin = std::move(begin),
          .user_end = std::move(end),
          .end_of_turn = std::string(kEndOfSequence),
          .bos = true};
}

PromptFormat Llama2() {
  PromptFormat format = Instruction("llama2", "[INST] ", " [/INST]");
  format.system_begin = "<<SYS>>\n";
  format.system_end = "\n<</SYS>>\n\n";
  return format;
}

// `space` follows the token that opens a turn.
PromptFormat MistralV7(std::string name, const std::string& space) {
  PromptFormat format = Instruction(std::move(name), "[INST]" + space, "[/INST]");
  format.system = SystemMessage::kOwnTurn;
  format.system_begin = "[SYSTEM_PROMPT]" + space;
  format.system_end = "[/SYSTEM_PROMPT]";
  return format;
}

// Roles as <|user|>, followed by `after_role`; turns end with `end`.
PromptFormat Roles(std::string name, const std::string& after_role, const std::string& end,
                   std::string end_of_turn) {
  return {.name = std::move(name),
          .system_begin = "<|system|>" + after_role,
          .system_end = end,
          .user_begin = "<|user|>" + after_role,
          .user_end = end,
          .answer_begin = "<|assistant|>" + after_role,
          .end_of_turn = std::move(end_of_turn)};
}

PromptFormat WithBos(PromptFormat format) {
  format.bos = true;
  return format;
}

PromptFormat DeepSeek(std::string name, const std::string& thought) {
  return {.name = std::move(name),
          .user_begin = "<｜User｜>",
          .answer_begin = "<｜Assistant｜>" + thought,
          .end_of_turn = std::string(kEndOfSequence),
          .bos = true};
}

// The order matters: a format that is a special case of another comes first.
std::vector<KnownFormat> Table() {
  return {
      {.format = {.name = "phi4",
                  .system_begin = "<|im_start|>system<|im_sep|>",
                  .system_end = "<|im_end|>",
                  .user_begin = "<|im_start|>user<|im_sep|>",
                  .user_end = "<|im_end|>",
                  .answer_begin = "<|im_start|>assistant<|im_sep|>",
                  .end_of_turn = "<|im_end|>"},
       .with = {"<|im_start|>", "<|im_sep|>"}},
      {.format = SmolLm3(), .with = {"<|im_start|>", "## Custom Instructions\n\n"}},
      // The empty thought is what these models expect where thinking is off.
      {.format = ChatMl("qwen3", "<think>\n\n</think>\n\n"),
       .with = {"<|im_start|>", LITERAL_END "<think>\n\n</think>\n\n" LITERAL_END}},
      {.format = ChatMl("nemotron3", "<think></think>"),
       .with = {"<|im_start|>assistant\n<think></think>"}},
      {.format = ChatMl("qwq-no-thinking", "<think>\n</think>"),
       .with = {"<|im_start|>assistant\n<think>\n", "enable_thinking"}},
      {.format = ChatMl("qwq", "<think>\n"), .with = {"<|im_start|>assistant\n<think>\n"}},
      {.format = ChatMl("chatml", ""), .with = {"<|im_start|>", "<|im_end|>"}},

      {.format =
           Llama3("llama3.1", "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"),
       .with = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date: December 2023\n",
                "Today Date: "}},
      {.format = Llama3("llama3", ""), .with = {"<|start_header_id|>", "<|eot_id|>"}},

      {.format = Llama2(), .with = {"[INST]", "<<SYS>>"}},
      {.format = MistralV7("mistral-v7", " "), .with = {"[SYSTEM_PROMPT] ", "[INST]"}},
      {.format = MistralV7("mistral-v7-tekken", ""), .with = {"[SYSTEM_PROMPT]", "[INST]"}},
      {.format = Instruction("mistral-v1", " [INST] ", " [/INST]"),
       .with = {" [INST] ", " [/INST]"}},
      {.format = Instruction("mistral-v0.1", "[INST] ", " [/INST]"),
       .with = {"[INST] ", " [/INST]"}},
      {.format = Instruction("mistral-v3", "[INST] ", "[/INST]"), .with = {"[INST] "}},
      {.format = Instruction("mistral-v3-tekken", "[INST]", "[/INST]"), .with = {"[INST]"}},

      // Gemma 3 puts the system message there, Gemma 2's template refuses one.
      {.format = {.name = "gemma",
                  .system = SystemMessage::kInUserTurn,
                  .system_end = "\n\n",
                  .user_begin = "<start_of_turn>user\n",
                  .user_end = "<end_of_turn>\n",
                  .answer_begin = "<start_of_turn>model\n",
                  .end_of_turn = "<end_of_turn>",
                  .bos = true},
       .with = {"<start_of_turn>", "<end_of_turn>"}},

      {.format = {.name = "granite",
                  .system_begin = "<|start_of_role|>system<|end_of_role|>",
                  .system_end = "<|end_of_text|>\n",
                  .user_begin = "<|start_of_role|>user<|end_of_role|>",
                  .user_end = "<|end_of_text|>\n",
                  .answer_begin = "<|start_of_role|>assistant<|end_of_role|>",
                  .end_of_turn = "<|end_of_text|>"},
       .with = {"<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"}},

      {.format = DeepSeek("deepseek3.1", "<think></think>"),
       .with = {"<｜User｜>", "<｜Assistant｜>", LITERAL_END "<think></think>" LITERAL_END}},
      {.format = DeepSeek("deepseek-r1-no-thinking", "<think>\n</think>"),
       .with = {"<｜User｜>", "<｜Assistant｜><think>\n", "enable_thinking"}},
      {.format = DeepSeek("deepseek-r1", "<think>\n"),
       .with = {"<｜User｜>", "<｜Assistant｜><think>\n"}},
      {.format = DeepSeek("deepseek3", ""), .with = {"<｜User｜>", "<｜Assistant｜>"}},
      {.format = {.name = "deepseek-coder",
                  .user_begin = "### Instruction:\n",
                  .user_end = "\n",
                  .answer_begin = "### Response:",
                  .end_of_turn = "<|EOT|>",
                  .bos = true},
       .with = {"### Instruction:\n", "### Response:", "<|EOT|>"}},

      {.format = Roles("phi3", "\n", "<|end|>\n", "<|end|>"),
       .with = {"<|assistant|>\n", "<|end|>\n"},
       .without = {"\n<|end|>"}},
      {.format = Roles("phi4-mini", "", "<|end|>", "<|end|>"),
       .with = {"<|assistant|>", "<|end|>"},
       .without = {"<|assistant|>\n"}},
      {.format = WithBos(Roles("olmo2", "\n", "\n", std::string(kEndOfSequence))),
       .with = {"<|assistant|>\n", ".content+" LITERAL_END "\n" LITERAL_END},
       .without = {"<|end|>", "[gMASK]"}},
      {.format = Roles("zephyr", "\n", "{eos}\n", std::string(kEndOfSequence)),
       .with = {"<|assistant|>\n", "eos_token"},
       .without = {"<|end|>", "[gMASK]"}},

      {.format = {.name = "completion",
                  .system = SystemMessage::kLeftOut,
                  .user_end = "\n\nAnswer:",
                  .end_of_turn = "\n\nQuestion:"}},
  };
}

#undef LITERAL_END

const std::vector<KnownFormat>& Rows() {
  static const auto* const rows = new std::vector<KnownFormat>(Table());
  return *rows;
}

}  // namespace

std::span<const KnownFormat> KnownFormats() { return Rows(); }

const PromptFormat* FindPromptFormat(std::string_view name) {
  for (const KnownFormat& known : Rows()) {
    if (known.format.name == name) return &known.format;
  }
  return nullptr;
}

std::vector<std::string> PromptFormatNames() {
  std::vector<std::string> names;
  for (const KnownFormat& known : Rows()) names.push_back(known.format.name);
  return names;
}

const PromptFormat& CompletionFormat() { return *FindPromptFormat("completion"); }

}  // namespace lectern
