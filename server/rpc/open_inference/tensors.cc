#include "server/rpc/open_inference/tensors.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lectern::open_inference {
namespace {

using InputTensor = inference::ModelInferRequest::InferInputTensor;

constexpr size_t kLengthBytes = 4;
// An input parameter that KServe's client sends although raw contents include their size.
constexpr char kBinarySize[] = "binary_data_size";

// Four bytes, little-endian.
std::string LittleEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(value >> shift));
  return bytes;
}

// Encodes and decodes a raw BYTES tensor of one element.
std::string Encode(std::string_view element) {
  return absl::StrCat(LittleEndian(static_cast<uint32_t>(element.size())),
                      absl::string_view(element.data(), element.size()));
}

std::optional<std::string_view> Decode(std::string_view raw) {
  if (raw.size() < kLengthBytes ||
      raw.substr(0, kLengthBytes) !=
          LittleEndian(static_cast<uint32_t>(raw.size() - kLengthBytes))) {
    return std::nullopt;
  }
  return raw.substr(kLengthBytes);
}

bool IsInput(const std::string& name) {
  return std::any_of(std::begin(kInputs), std::end(kInputs),
                     [&](const TensorName& input) { return name == input.name; });
}

std::string InputNames() {
  return absl::StrJoin(kInputs, ", ",
                       [](std::string* out, const TensorName& input) { out->append(input.name); });
}

bool HasOneElement(const InputTensor& tensor) {
  return !tensor.shape().empty() && std::all_of(tensor.shape().begin(), tensor.shape().end(),
                                                [](int64_t length) { return length == 1; });
}

// Returns what is wrong with an input's name, type, shape or parameters, or "".
std::string CheckInput(const InputTensor& tensor) {
  if (!IsInput(tensor.name())) return absl::StrCat("is not an input; there are ", InputNames());
  if (tensor.datatype() != "BYTES") return "must have datatype BYTES";
  if (!HasOneElement(tensor)) {
    return "must have shape [1]: a request is one question, a stream takes many requests";
  }
  for (const auto& [name, value] : tensor.parameters()) {
    if (name != kBinarySize) return absl::StrCat("must not have the parameter ", name);
  }
  return "";
}

// Returns the element of the input, or what is wrong with it.
std::optional<std::string> Element(const inference::ModelInferRequest& request, int index,
                                   std::string& wrong) {
  const inference::InferTensorContents& contents = request.inputs(index).contents();
  if (request.raw_input_contents().empty()) {
    if (contents.bytes_contents_size() == 1) return contents.bytes_contents(0);
    wrong = "must have one element in bytes_contents";
  } else if (request.inputs(index).has_contents()) {
    wrong = "must not have contents in addition to raw_input_contents";
  } else if (const auto element = Decode(request.raw_input_contents(index))) {
    return std::string(*element);
  } else {
    wrong = "must be one element: its length in four bytes, the lowest first, and its bytes";
  }
  return std::nullopt;
}

}  // namespace

std::map<std::string, std::string> ReadInputs(const inference::ModelInferRequest& request,
                                              std::vector<FieldViolation>& violations) {
  std::map<std::string, std::string> elements;
  const int raw = request.raw_input_contents_size();
  if (raw != 0 && raw != request.inputs_size()) {
    violations.push_back({"raw_input_contents", "must be empty or one for each of inputs"});
    return elements;
  }
  for (int i = 0; i < request.inputs_size(); ++i) {
    const InputTensor& tensor = request.inputs(i);
    std::string wrong = CheckInput(tensor);
    if (wrong.empty()) {
      std::optional<std::string> element = Element(request, i, wrong);
      if (element && !elements.emplace(tensor.name(), *std::move(element)).second) {
        wrong = "must be given once";
      }
    }
    if (!wrong.empty()) violations.push_back({absl::StrCat("inputs.", tensor.name()), wrong});
  }
  return elements;
}

inference::InferTensorContents* OutputTensors::AddTensor(const char* name, const char* datatype,
                                                         std::string raw) {
  auto* tensor = response_.add_outputs();
  tensor->set_name(name);
  tensor->set_datatype(datatype);
  tensor->add_shape(1);
  if (!raw_) return tensor->mutable_contents();
  response_.add_raw_output_contents(std::move(raw));
  return nullptr;
}

void OutputTensors::Add(const char* name, const std::string& bytes) {
  auto* contents = AddTensor(name, "BYTES", Encode(bytes));
  if (contents != nullptr) contents->add_bytes_contents(bytes);
}

void OutputTensors::Add(const char* name, float value) {
  auto* contents = AddTensor(name, "FP32", LittleEndian(std::bit_cast<uint32_t>(value)));
  if (contents != nullptr) contents->add_fp32_contents(value);
}

void OutputTensors::Add(const char* name, bool value) {
  auto* contents = AddTensor(name, "BOOL", std::string(1, value ? '\1' : '\0'));
  if (contents != nullptr) contents->add_bool_contents(value);
}

void AppendText(inference::ModelInferResponse& last, const inference::ModelInferResponse& next) {
  if (last.raw_output_contents().empty()) {
    last.mutable_outputs(0)->mutable_contents()->mutable_bytes_contents(0)->append(
        next.outputs(0).contents().bytes_contents(0));
    return;
  }
  std::string text(*Decode(last.raw_output_contents(0)));
  text += *Decode(next.raw_output_contents(0));
  last.set_raw_output_contents(0, Encode(text));
}

}  // namespace lectern::open_inference
