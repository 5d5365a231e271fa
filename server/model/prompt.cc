#include "server/model/prompt.h"

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

constexpr char kSystem[] =
    "You are a helpful assistant. Answer the question using only the document.";
constexpr char kBeforeDocument[] = "Document:\n";
constexpr char kBeforeQuestion[] = "\n\nQuestion: ";
constexpr char kBareAnswer[] = "\n\nAnswer:";
// Stands for document and question while the template is rendered; no template contains it.
constexpr char kMark[] = "\x1d";

}  // namespace

Prompt::Prompt(const ChatTemplate* chat_template) : before_question_(kBeforeQuestion) {
  if (chat_template == nullptr) {
    before_document_ = kBeforeDocument;
    after_question_ = kBareAnswer;
    return;
  }
  const std::string rendered =
      chat_template->Render({{"system", kSystem}, {"user", absl::StrCat(kBeforeDocument, kMark)}},
                            /*add_generation_prompt=*/true);
  const size_t mark = rendered.find(kMark);
  before_document_ = rendered.substr(0, mark);
  after_question_ = rendered.substr(mark + 1);
}

std::vector<int32_t> Prompt::Prefix(const Tokenizer& tokenizer) const {
  return tokenizer.Encode(before_document_, /*parse_special=*/true).ids;
}

QuestionSuffix Prompt::Suffix(const Tokenizer& tokenizer, std::string_view question) const {
  std::string text = before_question_;
  text += question;
  const Encoding encoded = tokenizer.Encode(text, /*parse_special=*/false);
  QuestionSuffix suffix{.ids = encoded.ids, .question_end = encoded.ids.size()};
  while (suffix.question_begin < suffix.question_end &&
         encoded.end[suffix.question_begin] <= before_question_.size()) {
    ++suffix.question_begin;
  }
  const std::vector<int32_t> end = tokenizer.Encode(after_question_, /*parse_special=*/true).ids;
  suffix.ids.insert(suffix.ids.end(), end.begin(), end.end());
  return suffix;
}

std::string Prompt::FixedText() const {
  return absl::StrCat(before_document_, kMark, before_question_, kMark, after_question_);
}

}  // namespace lectern
