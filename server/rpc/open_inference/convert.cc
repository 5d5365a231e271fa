#include "server/rpc/open_inference/convert.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/error_details.h"
#include "base/utf8.h"
#include "server/engine/request_checks.h"
#include "server/rpc/call/question_log.h"
#include "server/rpc/open_inference/parameters.h"
#include "server/rpc/open_inference/tensors.h"

namespace lectern::open_inference {
namespace {

using nlohmann::json;

constexpr char kVersion[] = "1";
constexpr char kPlatform[] = "lectern";
constexpr size_t kMaxIdBytes = 128;

std::string Text(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

std::string EvidenceJson(const Answer& answer) {
  json spans = json::array();
  for (const EvidenceSpan& span : answer.evidence) {
    spans.push_back({{"begin_byte", span.begin_byte},
                     {"end_byte", span.end_byte},
                     {"text", span.text},
                     {"attention", span.attention},
                     {"chunk", span.chunk}});
  }
  return Text(spans);
}

std::string UsageJson(const Usage& usage) {
  return Text({{"document_tokens", usage.document_tokens},
               {"question_tokens", usage.question_tokens},
               {"generated_tokens", usage.generated_tokens},
               {"tokens_computed", usage.tokens_computed},
               {"tokens_reused", usage.tokens_reused}});
}

std::string TimingsJson(const Timings& timings) {
  const auto seconds = [](absl::Duration duration) { return absl::ToDoubleSeconds(duration); };
  return Text({{"queue_seconds", seconds(timings.queue)},
               {"prefill_seconds", seconds(timings.prefill)},
               {"time_to_first_text_seconds", seconds(timings.time_to_first_text)},
               {"decode_seconds", seconds(timings.decode)},
               {"total_seconds", seconds(timings.total)}});
}

// The outputs of an answer. The output `delta` is separate: the text since the previous response.
constexpr char kDelta[] = "delta";
struct Output {
  const char* name;
  const char* datatype;
  void (*add)(const char* name, const Answer& answer, OutputTensors& tensors);
};
constexpr Output kOutputs[] = {
    {"answer", "BYTES", [](auto* name, auto& a, auto& out) { out.Add(name, a.text); }},
    {"finish_reason", "BYTES",
     [](auto* name, auto& a, auto& out) { out.Add(name, std::string(Name(a.finish_reason))); }},
    {"evidence", "BYTES", [](auto* name, auto& a, auto& out) { out.Add(name, EvidenceJson(a)); }},
    {"no_evidence", "BOOL", [](auto* name, auto& a, auto& out) { out.Add(name, a.no_evidence); }},
    {"question_coverage", "FP32",
     [](auto* name, auto& a, auto& out) {
       out.Add(name, static_cast<float>(a.question_coverage));
     }},
    {"null_score_difference", "FP32",
     [](auto* name, auto& a, auto& out) {
       constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
       out.Add(name, static_cast<float>(a.null_score_difference.value_or(kNone)));
     }},
    {"exact", "BOOL", [](auto* name, auto& a, auto& out) { out.Add(name, a.exactness.exact); }},
    {"kept_mass", "FP32",
     [](auto* name, auto& a, auto& out) {
       out.Add(name, static_cast<float>(a.exactness.kept_mass_mean));
     }},
    {"kept_mass_min", "FP32",
     [](auto* name, auto& a, auto& out) {
       out.Add(name, static_cast<float>(a.exactness.kept_mass_min));
     }},
    {"usage", "BYTES", [](auto* name, auto& a, auto& out) { out.Add(name, UsageJson(a.usage)); }},
    {"timings", "BYTES",
     [](auto* name, auto& a, auto& out) { out.Add(name, TimingsJson(a.timings)); }},
};

void CheckOutputs(const inference::ModelInferRequest& request,
                  std::vector<FieldViolation>& violations) {
  const std::string names =
      absl::StrJoin(kOutputs, ", ", [](std::string* out, const Output& o) { out->append(o.name); });
  for (const auto& requested : request.outputs()) {
    const std::string& name = requested.name();
    const bool known =
        name == kDelta || std::any_of(std::begin(kOutputs), std::end(kOutputs),
                                      [&](const Output& output) { return name == output.name; });
    const std::string field = absl::StrCat("outputs.", name);
    if (!known) {
      violations.push_back(
          {field, absl::StrCat("is not an output; there are ", names, ", ", kDelta)});
    } else if (!requested.parameters().empty()) {
      violations.push_back({field, "must not have parameters"});
    }
  }
}

void AddTensor(
    const char* name, const char* datatype,
    google::protobuf::RepeatedPtrField<inference::ModelMetadataResponse::TensorMetadata>& tensors) {
  auto* tensor = tensors.Add();
  tensor->set_name(name);
  tensor->set_datatype(datatype);
  tensor->add_shape(1);
}

}  // namespace

absl::Status CheckVersion(const std::string& version, const char* field) {
  if (version.empty() || version == kVersion) return absl::OkStatus();
  return ViolationsError({{field, absl::StrCat("must be ", kVersion, " or empty")}});
}

absl::StatusOr<v1::AskRequest> AskOf(const inference::ModelInferRequest& request) {
  std::vector<FieldViolation> violations =
      GetErrorDetails(CheckVersion(request.model_version(), "model_version")).field_violations;
  if (request.id().size() > kMaxIdBytes) {
    violations.push_back({"id", absl::StrCat("must be at most ", kMaxIdBytes, " bytes")});
  }
  std::map<std::string, std::string> inputs = ReadInputs(request, violations);
  v1::AskRequest ask;
  ask.set_model(request.model_name());
  if (violations.empty()) {  // else the missing input may be the wrong one
    if (inputs.count("question") == 0) violations.push_back({"inputs.question", "must be given"});
    if (inputs.count("document") + inputs.count("document_id") != 1) {
      violations.push_back({"inputs", "must have either document or document_id"});
    }
  }
  ask.set_question(std::move(inputs["question"]));
  if (inputs.count("document") > 0) {
    ask.set_inline_text(std::move(inputs["document"]));
  } else {
    ask.set_document_id(ReplaceInvalidUtf8(inputs["document_id"]));
  }
  ApplyParameters(request, inputs["parameters"], ask, violations);
  CheckOutputs(request, violations);
  if (!violations.empty()) return ViolationsError(violations);
  return ask;
}

absl::Status WithNamesOfInputs(const absl::Status& status) {
  std::vector<FieldViolation> violations = GetErrorDetails(status).field_violations;
  if (!absl::IsInvalidArgument(status) || violations.empty()) return status;
  for (FieldViolation& violation : violations) {
    std::string& field = violation.field;
    if (field == "inline_text") {
      field = "inputs.document";
    } else if (field == "question" || field == "document_id") {
      field = absl::StrCat("inputs.", field);
    } else if (!absl::StrContains(field, "x-lectern")) {
      absl::string_view name = field;
      if (!absl::ConsumePrefix(&name, "attention.")) absl::ConsumePrefix(&name, "sampling.");
      field = absl::StrCat("parameters.", name);
    }
  }
  return ViolationsError(violations);
}

inference::ModelMetadataResponse MetadataOf(const ModelInfo& model) {
  inference::ModelMetadataResponse metadata;
  metadata.set_name(model.name);
  metadata.add_versions(kVersion);
  metadata.set_platform(kPlatform);
  for (const TensorName& input : kInputs) {
    AddTensor(input.name, input.datatype, *metadata.mutable_inputs());
  }
  for (const Output& output : kOutputs) {
    AddTensor(output.name, output.datatype, *metadata.mutable_outputs());
  }
  AddTensor(kDelta, "BYTES", *metadata.mutable_outputs());
  return metadata;
}

inference::ModelConfig ConfigOf(const ModelInfo& model) {
  const auto type_of = [](const std::string& datatype) {
    if (datatype == "BYTES") return inference::TYPE_STRING;
    return datatype == "BOOL" ? inference::TYPE_BOOL : inference::TYPE_FP32;
  };
  const inference::ModelMetadataResponse metadata = MetadataOf(model);
  inference::ModelConfig config;
  config.set_name(metadata.name());
  config.set_platform(metadata.platform());
  for (const auto& tensor : metadata.inputs()) {
    auto* input = config.add_input();
    input->set_name(tensor.name());
    input->set_data_type(type_of(tensor.datatype()));
    input->add_dims(1);
    input->set_optional(tensor.name() != "question");
  }
  for (const auto& tensor : metadata.outputs()) {
    auto* output = config.add_output();
    output->set_name(tensor.name());
    output->set_data_type(type_of(tensor.datatype()));
    output->add_dims(1);
  }
  return config;
}

InferResponses::InferResponses(const inference::ModelInferRequest& request)
    : id_(ReplaceInvalidUtf8(request.id().substr(0, kMaxIdBytes))),
      model_(request.model_name()),
      raw_(!request.raw_input_contents().empty()) {
  for (const auto& output : request.outputs()) requested_.insert(output.name());
}

inference::ModelInferResponse InferResponses::Empty() const {
  inference::ModelInferResponse response;
  response.set_model_version(kVersion);
  response.set_id(id_);
  return response;
}

bool InferResponses::Delta(std::string_view text, inference::ModelInferResponse& out) {
  if (!Wants(kDelta)) return false;
  out = Empty();
  out.set_model_name(model_);
  OutputTensors(out, raw_).Add(kDelta, std::string(text));
  sent_text_ = true;
  return true;
}

inference::ModelInferResponse InferResponses::Final(const Answer& answer) const {
  inference::ModelInferResponse response = Empty();
  response.set_model_name(answer.model);
  OutputTensors tensors(response, raw_);
  for (const Output& output : kOutputs) {
    if (Wants(output.name)) output.add(output.name, answer, tensors);
  }
  if (requested_.count(kDelta) > 0) tensors.Add(kDelta, sent_text_ ? "" : answer.text);
  return response;
}

}  // namespace lectern::open_inference
