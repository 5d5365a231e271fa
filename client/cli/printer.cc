#include "client/cli/printer.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/error_details.h"
#include "base/utf8.h"
#include "client/cli/progress.h"

namespace lectern {
namespace {

constexpr size_t kQuoteBytes = 160;

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

std::string MiB(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

// Joins the text into one line, truncated between characters if it is long.
std::string Quote(const std::string& text) {
  std::string line = Printable(text);
  for (char& c : line) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  if (line.size() <= kQuoteBytes) return line;
  size_t end = kQuoteBytes;
  while (!IsUtf8Boundary(line, end)) --end;
  return line.substr(0, end) + "...";
}

std::string ExactnessText(const lectern::v1::Exactness& exactness) {
  if (exactness.exact()) return "exact";
  return absl::StrFormat("kept mass %.3f (%s)", exactness.kept_mass_mean(),
                         PolicyText(exactness.policy()));
}

// A line about when a span reader finds no answer; empty for other models.
std::string NoAnswerText(const lectern::v1::ModelInfo& model) {
  if (model.kind() != lectern::v1::ModelInfo::KIND_EXTRACTIVE) return "";
  if (!model.has_no_answer_threshold()) return "  always answers with a span of the document\n";
  return absl::StrFormat("  finds no answer above a score difference of %g\n",
                         model.no_answer_threshold());
}

// A line about the prompts of a generative model; empty for other models.
std::string PromptFormatText(const lectern::v1::ModelInfo& model) {
  if (model.prompt_format().empty()) return "";
  return absl::StrFormat("  prompt format: %s (%s)\n", Printable(model.prompt_format()),
                         Printable(model.prompt_format_reason()));
}

}  // namespace

std::string ShortTime(const google::protobuf::Duration& duration) {
  const double seconds = Seconds(duration);
  return seconds < 1 ? absl::StrFormat("%.0f ms", seconds * 1e3)
                     : absl::StrFormat("%.2f s", seconds);
}

std::string PolicyText(const lectern::v1::AttentionPolicy& policy) {
  if (policy.exact()) return "exact";
  const bool mean = policy.tail() == lectern::v1::AttentionPolicy::TAIL_MEAN;
  return absl::StrCat("k = ", policy.top_k(), mean ? ", tail mean" : "");
}

std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : ReplaceInvalidUtf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7f) || c == '\n' || c == '\t') out += c;
  }
  // Some terminals also obey the C1 controls U+0080 to U+009F.
  for (size_t at = 0; at + 1 < out.size();) {
    const bool c1 = out[at] == '\xc2' && static_cast<unsigned char>(out[at + 1]) < 0xa0;
    c1 ? static_cast<void>(out.erase(at, 2)) : static_cast<void>(++at);
  }
  return out;
}

bool IsNoAnswer(const lectern::v1::Answer& answer) {
  return answer.finish_reason() == lectern::v1::Answer::FINISH_REASON_NO_ANSWER;
}

std::string NullScoreText(const lectern::v1::Answer& answer) {
  if (!answer.has_null_score_difference()) return "no span of it could be one";
  const double difference = answer.null_score_difference();
  return absl::StrFormat("the score of \"no answer\" is %.2f %s that of the best span",
                         std::abs(difference), difference < 0 ? "below" : "above");
}

std::string JsonLine(const google::protobuf::Message& message) {
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json);
  return status.ok() ? json + "\n" : "";
}

std::string AnswerFooter(const lectern::v1::Answer& answer) {
  std::string text;
  for (int i = 0; i < answer.evidence_size(); ++i) {
    const auto& span = answer.evidence(i);
    absl::StrAppendFormat(&text, "  [%d] \"%s\" bytes %s-%s   attended %.0f %%\n", i + 1,
                          Quote(span.text()), WithCommas(span.begin_byte()),
                          WithCommas(span.end_byte()), span.attention() * 100);
  }
  if (IsNoAnswer(answer)) {
    absl::StrAppend(&text, "  the document holds no answer: ", NullScoreText(answer), "\n");
  } else if (answer.no_evidence()) {
    absl::StrAppend(&text,
                    "  the document does not seem to answer this: its best evidence lacks the "
                    "question's words\n");
  }
  absl::StrAppendFormat(
      &text, "  first text %s · %d tokens · %.0f tok/s · %s\n",
      ShortTime(answer.timings().time_to_first_text()), answer.usage().generated_tokens(),
      answer.timings().decode_tokens_per_second(), ExactnessText(answer.exactness()));
  if (answer.finish_reason() == lectern::v1::Answer::FINISH_REASON_LENGTH) {
    absl::StrAppend(&text, "  the answer was truncated at --max_new_tokens\n");
  }
  return text;
}

std::string DocumentLine(const lectern::v1::Document& document) {
  return absl::StrFormat("%s  %s tokens  %s in memory%s  %s  %s\n", document.id(),
                         WithCommas(document.tokens()), MiB(document.device_bytes()),
                         document.pinned() ? "  pinned" : "", Printable(document.model()),
                         Quote(document.title()));
}

std::string CountText(const lectern::v1::CountTokensResponse& count) {
  const std::string reading = count.reading() == lectern::v1::READING_CHUNKS
                                  ? absl::StrCat("in ", WithCommas(count.chunks()), " chunks")
                                  : "whole";
  return absl::StrCat(WithCommas(count.tokens()), " tokens of ", Printable(count.model()),
                      ": read ", reading, " (whole up to ", WithCommas(count.chunk_tokens()),
                      " tokens; context length ", WithCommas(count.context_length()), ")\n");
}

std::string ModelText(const lectern::v1::ModelInfo& model) {
  return absl::StrFormat(
      "%s\n  %s, %s parameters, %s %s, computed in %s, %s in memory\n"
      "  context length %s tokens, %d layers, KV cache %s bytes per token\n"
      "  default attention: %s\n%s%s",
      Printable(model.name()), model.family(), WithCommas(model.parameters()), model.format(),
      model.quantization(), model.numerics(), MiB(model.weight_bytes()), WithCommas(model.window()),
      model.layers(), WithCommas(model.kv_bytes_per_token()), PolicyText(model.default_policy()),
      PromptFormatText(model), NoAnswerText(model));
}

std::string StateName(lectern::v1::ServerStatus::State state) {
  return std::string(absl::StripPrefix(lectern::v1::ServerStatus::State_Name(state), "STATE_"));
}

std::string StatusText(const lectern::v1::ServerStatus& status) {
  const auto& limits = status.limits();
  return absl::StrFormat(
      "%s  %s\n  version %s, up %.0f s, %d threads, %s kernels\n"
      "  %d running, %d waiting of at most %d\n  %d documents, %s of %s KV cache\n"
      "  limits: document %s bytes, question %s bytes, answer %s tokens, k %s\n",
      StateName(status.state()), Printable(status.explanation()), status.version(),
      Seconds(status.uptime()), status.threads(), status.isa(), status.requests_running(),
      status.requests_waiting(), status.queue_capacity(), status.documents(),
      MiB(status.kv_bytes_used()), MiB(status.kv_bytes_capacity()),
      WithCommas(limits.max_document_bytes()), WithCommas(limits.max_question_bytes()),
      WithCommas(limits.max_new_tokens()), WithCommas(limits.max_top_k()));
}

std::string ErrorText(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  std::string text = absl::StrCat("lectern: ", absl::StatusCodeToString(status.code()), ": ",
                                  Printable(std::string(status.message())), "\n");
  if (!details.reason.empty()) {
    absl::StrAppend(&text, "  reason: ", Printable(details.reason), "\n");
  }
  for (const auto& [key, value] : details.metadata) {
    absl::StrAppend(&text, "  ", Printable(key), ": ", Printable(value), "\n");
  }
  for (const FieldViolation& violation : details.field_violations) {
    absl::StrAppend(&text, "  field ", Printable(violation.field), ": ",
                    Printable(violation.description), "\n");
  }
  if (!details.resource_name.empty()) {
    absl::StrAppend(&text, "  ", Printable(details.resource_type), ": ",
                    Printable(details.resource_name), "\n");
  }
  if (details.retry_after) {
    absl::StrAppend(&text, "  try again in ", absl::FormatDuration(*details.retry_after), "\n");
  }
  return text;
}

}  // namespace lectern
