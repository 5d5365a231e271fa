// Chat templates: how a model wants its turns written. Templates are recognised, not interpreted: a
// model file brings a Jinja program, and running programs out of model files is what this server
// does not do. An unknown template is refused at load time with its first line in the message.
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
  // The text that goes through Tokenizer::Encode(text, parse_special = true).
  virtual std::string Render(const std::vector<ChatMessage>& messages,
                             bool add_generation_prompt) const = 0;
};

// Recognises the template source of a model file (tokenizer.chat_template of a GGUF or
// tokenizer_config.json). UNIMPLEMENTED, naming what was found, when it is not one that is known.
absl::StatusOr<std::unique_ptr<ChatTemplate>> RecogniseChatTemplate(std::string_view jinja);

}  // namespace lectern
