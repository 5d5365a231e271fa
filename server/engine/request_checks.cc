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

  void CheckAttention(const AttentionChoice& c, const EngineLimits& limits,
                      const ModelInfo& model) {
    const std::string k_range = absl::StrCat("must be 1 to ", limits.max_top_k);
    const bool others = c.top_k || c.tail || !c.layer_top_k.empty() || c.ffn_top_k ||
                        c.page_budget || c.dense_up_to || c.max_error || c.fall_back_to_exact;
    Require(!c.exact || !others, "attention.exact",
            "must not be set together with other fields of attention");
    Require(!c.top_k || (*c.top_k >= 1 && *c.top_k <= limits.max_top_k), "attention.top_k",
            k_range);
    Require(c.layer_top_k.size() <= static_cast<size_t>(model.layers), "attention.layer_top_k",
            absl::StrCat("must have at most ", model.layers, " entries, one for each layer"));
    Require(std::all_of(c.layer_top_k.begin(), c.layer_top_k.end(),
                        [&](int64_t k) { return k >= 0 && k <= limits.max_top_k; }),
            "attention.layer_top_k", absl::StrCat("entries must be 0 to ", limits.max_top_k));
    Require(!c.ffn_top_k || *c.ffn_top_k == 0 || model.ffn_units > 0, "attention.ffn_top_k",
            absl::StrCat("model ", model.name, " does not offer it"));
    Require(!c.page_budget || (*c.page_budget >= 0 && *c.page_budget <= limits.max_top_k),
            "attention.page_budget", absl::StrCat("must be 0 to ", limits.max_top_k));
    Require(!c.dense_up_to || (*c.dense_up_to >= 0 && *c.dense_up_to <= limits.max_top_k),
            "attention.dense_up_to", absl::StrCat("must be 0 to ", limits.max_top_k));
    Require(!c.max_error || (*c.max_error >= 0 && *c.max_error <= 1), "attention.max_error",
            "must be 0 to 1");
  }

  void CheckSampling(const SamplingOptions& s, const ModelInfo& model) {
    Require(Samples(model) || s.temperature == 0, "sampling.temperature",
            absl::StrCat("must be 0: model ", model.name, " answers with spans of the document"));
    Require(s.temperature >= 0 && s.temperature <= 2, "sampling.temperature", "must be 0 to 2");
    Require(s.top_p > 0 && s.top_p <= 1, "sampling.top_p", "must be above 0 and at most 1");
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
  check.CheckAttention(options.attention, limits, model);
  return check.Result();
}

absl::Status CheckAsk(const AskOptions& options, const EngineLimits& limits,
                      const ModelInfo& model) {
  Checker check;
  check.Require(!options.question.empty() && options.question.size() <= limits.max_question_bytes &&
                    IsValidUtf8(options.question),
                "question",
                absl::StrCat("must be 1 to ", limits.max_question_bytes, " bytes of UTF-8"));
  if (options.inline_text) {
    check.Require(
        !options.inline_text->empty() && options.inline_text->size() <= limits.max_document_bytes &&
            IsValidUtf8(*options.inline_text),
        "inline_text", absl::StrCat("must be 1 to ", limits.max_document_bytes, " bytes of UTF-8"));
  }
  check.Require(options.max_new_tokens <= limits.max_new_tokens, "max_new_tokens",
                absl::StrCat("must be at most ", limits.max_new_tokens));
  check.Require(options.max_evidence_spans <= limits.max_evidence_spans, "max_evidence_spans",
                absl::StrCat("must be at most ", limits.max_evidence_spans));
  check.CheckStops(options.stop, limits);
  check.CheckSampling(options.sampling, model);
  check.CheckAttention(options.attention, limits, model);
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

AttentionPolicy ResolvePolicy(const AttentionChoice& choice, const ModelInfo& model) {
  if (choice.exact) return AttentionPolicy::Exact();
  AttentionPolicy policy = model.default_policy;
  if (choice.tail) policy.tail = *choice.tail;
  policy.ffn_top_k = choice.ffn_top_k.value_or(0);
  policy.page_budget = choice.page_budget.value_or(0);
  if (choice.top_k) {
    policy.top_k = *choice.top_k;
    // Layers that the default keeps dense stay dense; its other overrides belong to its own k.
    for (int64_t& k : policy.layer_k) k = k == 0 ? 0 : policy.top_k;
  }
  if (!choice.layer_top_k.empty()) policy.layer_k = choice.layer_top_k;
  // A request that chooses k gets it for short texts too.
  const bool chooses = choice.top_k || !choice.layer_top_k.empty();
  policy.dense_up_to = choice.dense_up_to.value_or(chooses ? 0 : policy.dense_up_to);
  // Equal policies must compare equal, so each one has a single form.
  while (!policy.layer_k.empty() && policy.layer_k.back() == policy.top_k)
    policy.layer_k.pop_back();
  return policy.IsExact(model.layers) ? AttentionPolicy::Exact() : policy;
}

absl::Status CheckWindow(uint64_t document_tokens, uint64_t question_tokens, uint64_t answer_tokens,
                         const ModelInfo& model) {
  const uint64_t tokens = document_tokens + question_tokens + answer_tokens;
  const uint64_t limit = static_cast<uint64_t>(model.context_length);
  if (tokens <= limit) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat("document (", document_tokens, " tokens), question (", question_tokens,
                   ") and answer (", answer_tokens, ") are ", tokens,
                   " tokens together; the context length of model ", model.name, " is ", limit),
      {.reason = "DOCUMENT_TOO_LONG",
       .metadata = {{"tokens", absl::StrCat(tokens)},
                    {"limit", absl::StrCat(limit)},
                    {"document_tokens", absl::StrCat(document_tokens)},
                    {"question_tokens", absl::StrCat(question_tokens)},
                    {"answer_tokens", absl::StrCat(answer_tokens)}}});
}

}  // namespace lectern
