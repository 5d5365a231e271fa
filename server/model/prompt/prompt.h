// The prompt that questions about a document are asked with (docs/measurements/quality.md):
//
//   system: You are a helpful assistant. Answer the question using only the document.
//   user:   Document:\n{document}\n\nQuestion: {question}
//
// in the model's prompt format. Only the format's own text is parsed for special tokens; document
// and question are ordinary text, whatever they contain.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/model/model.h"
#include "server/model/prompt/prompt_format.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// A part of a prompt's text.
struct PromptPart {
  std::string_view text;
  bool parse_special = false;  // special tokens in it become their ids
};

// Tokenises parts as one text, so that ordinary text merges across their borders as it would if the
// prompt were written by hand. Byte ranges are those of the concatenated text. Begin of sequence is
// not added. With `continues`, the parts follow other text: the token of a word boundary that the
// tokenizer assumes at the start of a text is left out.
Encoding EncodeParts(const Tokenizer& tokenizer, std::span<const PromptPart> parts,
                     bool continues = false);

// Immutable, thread-safe.
class Prompt {
 public:
  // `end_of_sequence` is the text of that token. The prompt begins with `bos` unless it is -1 or
  // the format's own text begins with that token.
  explicit Prompt(const PromptFormat& format, std::string_view end_of_sequence = "",
                  int32_t bos = -1);

  std::vector<int32_t> Prefix(const Tokenizer& tokenizer) const;
  QuestionSuffix Suffix(const Tokenizer& tokenizer, std::string_view question) const;

  // All text that does not come from document or question, for fingerprints.
  std::string FixedText() const;

 private:
  std::string before_document_;
  std::string before_question_;  // ordinary text
  std::string after_question_;
  int32_t bos_;
};

// `ids` with `bos` in front, unless it is -1 or already there.
std::vector<int32_t> WithBos(std::vector<int32_t> ids, int32_t bos);

}  // namespace lectern
