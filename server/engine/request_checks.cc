#include "server/engine/request_checks.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/utf8.h"
#include "protocol/reasons.h"
#include "server/engine/model_kind.h"

namespace lectern {
namespace {

// Collects violations; each method adds one unless `ok`.
class Checker {
 public:
  void Require(bool ok, std::string field, std::string description) {
    if (!ok) violations_.push_back({std::move(field), std::move(description)});
  }

  void CheckAttention(const AttentionChoice& choice, const ModelInfo& model) {
    lectern::CheckAttention(choice, model, violations_);
  }

  void CheckSampling(const SamplingOptions& s, const ModelInfo& model) {
    Require(Samples(model) || s.temperature == 0, "sampling.temperature",
            absl::StrCat("must be 0: model ", model.name, " answers with spans of the document"));
    Require(s.temperature >= 0 && s.temperature <= 2, "sampling.temperature", "must be 0 to 2");
    Require(s.top_p > 0 && s.top_p <= 1, "sampling.top_p", "must be above 0 and at most 1");
  }

  void CheckNoAnswer(const std::optional<double>& threshold, const ModelInfo& model) {
    constexpr double kMost = 1e6;
    if (!threshold) return;
    Require(!Samples(model), "no_answer_threshold",
            absl::StrCat("must not be set: model ", model.name, " is not a span reader"));
    Require(std::abs(*threshold) <= kMost, "no_answer_threshold", "must be -1e6 to 1e6");
  }

  void CheckText(std::string field, const std::string& text, const EngineLimits& limits) {
    Require(!text.empty() && text.size() <= limits.max_document_bytes && IsValidUtf8(text),
            std::move(field),
            absl::StrCat("must be 1 to ", limits.max_document_bytes, " bytes of UTF-8"));
  }

  void CheckStops(const std::vector<std::string>& stops, const EngineLimits& limits) {
    Require(stops.size() <= limits.max_stop_strings, "stop",
            absl::StrCat("must be at most ", limits.max_stop_strings, " strings"));
    for (size_t i = 0; i < stops.size(); ++i) {
      Require(
          !stops[i].empty() && stops[i].size() <= limits.max_stop_bytes && IsValidUtf8(stops[i]),
          absl::StrCat("stop[", i, "]"),
          absl::StrCat("must be 1 to ", limits.max_stop_bytes, " bytes of UTF-8"));
    }
  }

  absl::Status Result() const { return ViolationsError(violations_); }

 private:
  std::vector<FieldViolation> violations_;
};

bool IsHexDigest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
}

}  // namespace

absl::Status ViolationsError(const std::vector<FieldViolation>& violations) {
  if (violations.empty()) return absl::OkStatus();
  const std::string list =
      absl::StrJoin(violations, "; ", [](std::string* out, const FieldViolation& v) {
        absl::StrAppend(out, v.field, " ", v.description);
      });
  return MakeError(absl::StatusCode::kInvalidArgument, list,
                   {.reason = kReasonInvalidRequest, .field_violations = violations});
}

absl::Status CheckUpload(const UploadOptions& options, const EngineLimits& limits,
                         const ModelInfo& model) {
  Checker check;
  check.Require(options.title.size() <= limits.max_title_bytes && IsValidUtf8(options.title),
                "metadata.title",
                absl::StrCat("must be at most ", limits.max_title_bytes, " bytes of UTF-8"));
  check.Require(options.expected_bytes <= limits.max_document_bytes, "metadata.expected_bytes",
                absl::StrCat("must be at most ", limits.max_document_bytes));
  check.Require(options.expected_sha256.empty() || IsHexDigest(options.expected_sha256),
                "metadata.expected_sha256", "must be 64 hexadecimal digits");
  check.Require(!options.ttl || *options.ttl >= absl::ZeroDuration(), "metadata.ttl",
                "must not be negative");
  check.CheckAttention(options.attention, model);
  return check.Result();
}

absl::Status CheckText(const std::string& text, const EngineLimits& limits) {
  Checker check;
  check.CheckText("text", text, limits);
  return check.Result();
}

absl::Status CheckAsk(const AskOptions& options, const EngineLimits& limits,
                      const ModelInfo& model) {
  Checker check;
  check.Require(!options.question.empty() && options.question.size() <= limits.max_question_bytes &&
                    IsValidUtf8(options.question),
                "question",
                absl::StrCat("must be 1 to ", limits.max_question_bytes, " bytes of UTF-8"));
  if (options.inline_text) check.CheckText("inline_text", *options.inline_text, limits);
  check.Require(options.max_new_tokens <= limits.max_new_tokens, "max_new_tokens",
                absl::StrCat("must be at most ", limits.max_new_tokens));
  check.Require(options.max_evidence_spans <= limits.max_evidence_spans, "max_evidence_spans",
                absl::StrCat("must be at most ", limits.max_evidence_spans));
  check.CheckStops(options.stop, limits);
  check.CheckSampling(options.sampling, model);
  check.CheckNoAnswer(options.no_answer_threshold, model);
  check.CheckAttention(options.attention, model);
  return check.Result();
}

absl::StatusOr<std::shared_ptr<const Model>> FindModel(
    const std::vector<std::shared_ptr<const Model>>& models, const std::string& name,
    const char* field) {
  if (name.empty() && !models.empty()) return models[0];
  for (const auto& model : models) {
    if (model->info().name == name) return model;
  }
  return MakeError(absl::StatusCode::kNotFound, absl::StrCat("there is no model '", name, "'"),
                   {.reason = "MODEL_NOT_FOUND",
                    .field_violations = {{field, "must be one of ListModels"}},
                    .resource_type = "model",
                    .resource_name = name});
}

absl::Status CheckContextLength(const PromptTokens& tokens, const ModelInfo& model) {
  const uint64_t sum = tokens.document + tokens.question + tokens.answer;
  const uint64_t limit = static_cast<uint64_t>(model.context_length);
  if (sum <= limit) return absl::OkStatus();
  ErrorDetails details = {.reason = "DOCUMENT_TOO_LONG",
                          .metadata = {{"tokens", absl::StrCat(sum)},
                                       {"limit", absl::StrCat(limit)},
                                       {"document_tokens", absl::StrCat(tokens.document)},
                                       {"question_tokens", absl::StrCat(tokens.question)},
                                       {"answer_tokens", absl::StrCat(tokens.answer)}}};
  const bool question = !tokens.whole_document || tokens.question + tokens.answer >= limit;
  if (question) {
    // A whole document may become shorter too; a part of one stays as it is.
    const uint64_t others = tokens.answer + (tokens.whole_document ? 0 : tokens.document);
    details.reason = "QUESTION_TOO_LONG";
    details.field_violations.push_back(
        {"question", others < limit ? absl::StrCat("must be at most ", limit - others,
                                                   " tokens, or the answer shorter")
                                    : "leaves no room: the answer must be shorter"});
  }
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat(tokens.whole_document ? "document (" : "part of the document (", tokens.document,
                   " tokens), question (", tokens.question, ") and answer (", tokens.answer,
                   ") are ", sum, " tokens together; the context length of model ", model.name,
                   " is ", limit),
      details);
}

}  // namespace lectern
