#include "server/rpc/call/question_log.h"

#include "absl/strings/match.h"

namespace lectern {
namespace {

constexpr std::string_view kIdPrefix = "doc-";
constexpr size_t kShortIdDigits = 8;

const char* FinishOf(const absl::Status& status) {
  if (absl::IsCancelled(status)) return "cancelled";
  return absl::IsDeadlineExceeded(status) ? "deadline" : "error";
}

// Adds model and document only if the request or the answer names them.
std::vector<LogField> About(const char* finish, const std::string& model,
                            const std::string& document_id) {
  std::vector<LogField> fields = {{"finish_reason", finish}};
  if (!model.empty()) fields.push_back({"model", model});
  const std::string document = ShortDocumentId(document_id);
  if (!document.empty()) fields.push_back({"doc", document});
  return fields;
}

}  // namespace

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kNoAnswer:
      return "no_answer";
    case FinishReason::kStopString:
      return "stop_string";
  }
  return "";
}

std::string ShortDocumentId(const std::string& id) {
  if (id.rfind(kIdPrefix, 0) != 0) return "";
  const std::string digits = id.substr(kIdPrefix.size(), kShortIdDigits);
  return digits.find_first_not_of("0123456789abcdef") == std::string::npos ? digits : "";
}

QuestionLog::QuestionLog(const v1::AskRequest& request, bool log_prompts)
    : model_(request.model()),
      document_id_(request.document_id()),
      question_(log_prompts ? request.question() : ""),
      log_prompts_(log_prompts) {}

std::vector<LogField> QuestionLog::Answered(const Answer& answer) const {
  const auto ms = [](absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); };
  std::vector<LogField> fields =
      About(Name(answer.finish_reason), answer.model, answer.document_id);
  const std::initializer_list<LogField> figures = {
      {"prompt_tokens", answer.usage.document_tokens + answer.usage.question_tokens},
      {"cached_tokens", answer.usage.tokens_reused},
      {"generated_tokens", answer.usage.generated_tokens},
      {"queue_ms", ms(answer.timings.queue)},
      {"ttft_ms", ms(answer.timings.time_to_first_text)},
      {"kept_mass", answer.exactness.kept_mass_mean}};
  fields.insert(fields.end(), figures);
  if (log_prompts_) {
    fields.push_back({"question", question_});
    fields.push_back({"answer", answer.text});
  }
  return fields;
}

std::vector<LogField> QuestionLog::Failed(const absl::Status& status) const {
  std::vector<LogField> fields = About(FinishOf(status), model_, document_id_);
  fields.push_back({"generated_tokens", tokens_});
  if (log_prompts_) fields.push_back({"question", question_});
  return fields;
}

}  // namespace lectern
