#include "server/rpc/open_inference/parameters.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lectern::open_inference {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::json;

constexpr size_t kMaxJsonBytes = 16 << 10;

// The fields of AskRequest that are parameters, and the messages in it whose fields all are.
constexpr std::array kAskParameters = {
    "max_new_tokens", "max_evidence_spans", "stop",          "reading",
    "quality",        "priority",           "disable_reuse", "no_answer_threshold"};
constexpr std::array kMessages = {"attention", "sampling"};

// Sent by Triton's client to get a last response even if it is empty. Here every request has a last
// response, which is never empty.
constexpr char kEmptyFinalResponse[] = "triton_enable_empty_final_response";

json JsonOf(const inference::InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case inference::InferParameter::kBoolParam:
      return parameter.bool_param();
    case inference::InferParameter::kInt64Param:
      return parameter.int64_param();
    case inference::InferParameter::kStringParam:
      return parameter.string_param();
    case inference::InferParameter::kDoubleParam:
      return parameter.double_param();
    case inference::InferParameter::kUint64Param:
      return parameter.uint64_param();
    case inference::InferParameter::PARAMETER_CHOICE_NOT_SET:
      break;
  }
  return nullptr;
}

// READING_WHOLE is "whole".
std::string ShortName(const google::protobuf::EnumValueDescriptor& value) {
  const std::string& name = value.name();
  return absl::AsciiStrToLower(name.substr(name.find('_') + 1));
}

std::string SetEnum(Message& message, const FieldDescriptor& field, const json& value) {
  std::vector<std::string> names;
  for (int i = 1; i < field.enum_type()->value_count(); ++i) {  // 0 is UNSPECIFIED
    const auto* candidate = field.enum_type()->value(i);
    names.push_back(ShortName(*candidate));
    if (value != names.back()) continue;
    message.GetReflection()->SetEnum(&message, &field, candidate);
    return "";
  }
  return absl::StrCat("must be one of ", absl::StrJoin(names, ", "));
}

std::string SetUnsigned(Message& message, const FieldDescriptor& field, const json& value) {
  const bool wide = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
  const uint64_t limit =
      wide ? std::numeric_limits<uint64_t>::max() : std::numeric_limits<uint32_t>::max();
  const bool negative =
      value.is_number_integer() && !value.is_number_unsigned() && value.get<int64_t>() < 0;
  if (!value.is_number_integer() || negative || value.get<uint64_t>() > limit) {
    return absl::StrCat("must be an integer of 0 to ", limit);
  }
  const auto* reflection = message.GetReflection();
  if (wide) {
    reflection->SetUInt64(&message, &field, value.get<uint64_t>());
  } else if (field.is_repeated()) {
    reflection->AddUInt32(&message, &field, value.get<uint32_t>());
  } else {
    reflection->SetUInt32(&message, &field, value.get<uint32_t>());
  }
  return "";
}

std::string SetText(Message& message, const FieldDescriptor& field, const json& value) {
  if (!value.is_string()) return "must be text";
  message.GetReflection()->AddString(&message, &field, value.get<std::string>());
  return "";
}

// Sets one value, or adds it to a repeated field. Returns what is allowed if the value is not, else
// "".
std::string SetValue(Message& message, const FieldDescriptor& field, const json& value) {
  const auto* reflection = message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!value.is_boolean()) return "must be true or false";
      reflection->SetBool(&message, &field, value.get<bool>());
      return "";
    case FieldDescriptor::CPPTYPE_FLOAT:
      if (!value.is_number()) return "must be a number";
      reflection->SetFloat(&message, &field, value.get<float>());
      return "";
    case FieldDescriptor::CPPTYPE_ENUM:
      return SetEnum(message, field, value);
    case FieldDescriptor::CPPTYPE_STRING:
      return SetText(message, field, value);
    default:
      return SetUnsigned(message, field, value);
  }
}

std::string Set(Message& message, const FieldDescriptor& field, const json& value) {
  if (!field.is_repeated() || !value.is_array()) return SetValue(message, field, value);
  for (const json& element : value) {
    if (std::string allowed = SetValue(message, field, element); !allowed.empty()) return allowed;
  }
  return "";
}

const FieldDescriptor& MessageField(const char* name) {
  return *v1::AskRequest::descriptor()->FindFieldByName(name);
}

std::string KnownNames() {
  std::vector<std::string> names(kAskParameters.begin(), kAskParameters.end());
  for (const char* name : kMessages) {
    const auto& message = *MessageField(name).message_type();
    for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

// Returns what is wrong with the parameter, or "".
std::string Apply(const std::string& name, const json& value, v1::AskRequest& ask) {
  if (name == kEmptyFinalResponse) return "";
  if (std::find(kAskParameters.begin(), kAskParameters.end(), name) != kAskParameters.end()) {
    return Set(ask, *v1::AskRequest::descriptor()->FindFieldByName(name), value);
  }
  for (const char* part : kMessages) {
    const FieldDescriptor& message = MessageField(part);
    const FieldDescriptor* field = message.message_type()->FindFieldByName(name);
    if (field == nullptr) continue;
    return Set(*ask.GetReflection()->MutableMessage(&ask, &message), *field, value);
  }
  return absl::StrCat("is not a parameter; there are ", KnownNames());
}

}  // namespace

void ApplyParameters(const inference::ModelInferRequest& request, const std::string& text,
                     v1::AskRequest& ask, std::vector<FieldViolation>& violations) {
  for (const auto& [name, value] : request.parameters()) {
    const std::string wrong = Apply(name, JsonOf(value), ask);
    if (!wrong.empty()) violations.push_back({absl::StrCat("parameters.", name), wrong});
  }
  if (text.empty()) return;
  json object;
  if (text.size() <= kMaxJsonBytes) {
    object = json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
  }
  if (!object.is_object()) {
    violations.push_back(
        {"parameters", absl::StrCat("must be a JSON object of at most ", kMaxJsonBytes, " bytes")});
    return;
  }
  for (const auto& [name, value] : object.items()) {
    const std::string wrong = request.parameters().contains(name)
                                  ? "is in the request's parameters, too"
                                  : Apply(name, value, ask);
    if (!wrong.empty()) violations.push_back({absl::StrCat("parameters.", name), wrong});
  }
}

}  // namespace lectern::open_inference
