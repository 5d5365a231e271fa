// Tensors of the Open Inference Protocol. All have one element, in either of the protocol's forms.
#pragma once

#include <inference/open_inference.pb.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error_details.h"

namespace lectern::open_inference {

// An input or output tensor of a model.
struct TensorName {
  const char* name;
  const char* datatype;
};
inline constexpr TensorName kInputs[] = {{"question", "BYTES"},
                                         {"document", "BYTES"},
                                         {"document_id", "BYTES"},
                                         {"parameters", "BYTES"}};

// Returns the element of each input by name; each name occurs once in kInputs and in the request.
std::map<std::string, std::string> ReadInputs(const inference::ModelInferRequest& request,
                                              std::vector<FieldViolation>& violations);

// Adds outputs of one element, either to raw_output_contents or to the outputs' contents.
class OutputTensors {
 public:
  OutputTensors(inference::ModelInferResponse& response, bool raw)
      : response_(response), raw_(raw) {}

  void Add(const char* name, const std::string& bytes);
  void Add(const char* name, float value);
  void Add(const char* name, bool value);
  void Add(const char*, const char*) = delete;  // would be a bool

 private:
  inference::InferTensorContents* AddTensor(const char* name, const char* datatype,
                                            std::string raw);
  inference::ModelInferResponse& response_;
  const bool raw_;
};

// Appends the text of the only output of `next` to that of `last`.
void AppendText(inference::ModelInferResponse& last, const inference::ModelInferResponse& next);

}  // namespace lectern::open_inference
