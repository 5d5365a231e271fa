// The prompt that questions about a document are asked with (docs/measurements/quality.md):
//
//   system: You are a helpful assistant. Answer the question using only the document.
//   user:   Document:\n{document}\n\nQuestion: {question}
//
// rendered by the model's chat template. Only the template's text is parsed for special tokens;
// document and question are ordinary text, whatever they contain.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/model/model.h"
#include "server/tokenizer/chat_template.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// Immutable, thread-safe.
class Prompt {
 public:
  // `chat_template` may be null: a model without one gets the bare user turn and "Answer:".
  explicit Prompt(const ChatTemplate* chat_template);

  std::vector<int32_t> Prefix(const Tokenizer& tokenizer) const;
  QuestionSuffix Suffix(const Tokenizer& tokenizer, std::string_view question) const;

  // All text that does not come from document or question, for fingerprints.
  std::string FixedText() const;

 private:
  std::string before_document_;
  std::string before_question_;  // ordinary text
  std::string after_question_;
};

}  // namespace lectern
