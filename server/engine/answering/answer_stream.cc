#include "server/engine/answering/answer_stream.h"

#include <utility>

namespace lectern {

void AnswerStream::AddTokens(uint64_t count, Answer& answer) {
  answer.usage.generated_tokens += count;
  unsent_tokens_ += static_cast<uint32_t>(count);
}

void AnswerStream::Show(std::string_view text, Answer& answer, AskSink& sink) {
  if (text.empty()) return;
  if (first_text_ == absl::ZeroDuration()) {
    first_text_ = clock_->Steady() - arrival_;
    metrics_->FirstText(answer.model, answer.usage.document_tokens + answer.usage.question_tokens,
                        first_text_);
  }
  answer.text += text;
  sink.OnText(text, std::exchange(unsent_tokens_, 0));
}

}  // namespace lectern
