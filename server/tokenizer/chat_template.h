// Chat templates: the form in which a model expects its turns. Templates are recognised, not
// interpreted: a model file contains a Jinja program, and this server does not run programs from
// model files. An unknown template is refused at load time with its first line in the message.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lectern {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// Immutable, thread-safe.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  // The text to pass to Tokenizer::Encode(text, parse_special = true).
  virtual std::string Render(const std::vector<ChatMessage>& messages,
                             bool add_generation_prompt) const = 0;
};

// Recognises the template source of a model file (tokenizer.chat_template of a GGUF or
// tokenizer_config.json). UNIMPLEMENTED, with the template's first line, if it is unknown.
absl::StatusOr<std::unique_ptr<ChatTemplate>> RecogniseChatTemplate(std::string_view jinja);

}  // namespace lectern
