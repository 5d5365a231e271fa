// Between the Open Inference Protocol's messages and Ask's. No logic: what a question may say is
// checked where Ask's is, and only what these messages alone can express wrongly is checked here.
#pragma once

#include <inference/open_inference.pb.h>
#include <lectern/v1/ask.pb.h>

#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/engine/api.h"
#include "server/model/model.h"

namespace lectern::open_inference {

// INVALID_ARGUMENT with all violations.
absl::StatusOr<v1::AskRequest> AskOf(const inference::ModelInferRequest& request);

// There is one version of a model, "1". INVALID_ARGUMENT unless `version` is it, or empty.
absl::Status CheckVersion(const std::string& version, const char* field);

// The engine's error about fields of Ask as one about inputs and parameters; other errors as they
// are.
absl::Status WithNamesOfInputs(const absl::Status& status);

inference::ModelMetadataResponse MetadataOf(const ModelInfo& model);
inference::ModelConfig ConfigOf(const ModelInfo& model);

// The responses to one request: its id, the outputs it asks for, the form of its tensors.
class InferResponses {
 public:
  explicit InferResponses(const inference::ModelInferRequest& request);

  // A piece of the answer; false if the request does not ask for the output `delta`.
  bool Delta(std::string_view text, inference::ModelInferResponse& out);
  inference::ModelInferResponse Final(const Answer& answer) const;
  // No outputs.
  inference::ModelInferResponse Empty() const;

 private:
  bool Wants(const char* output) const {
    return requested_.empty() || requested_.count(output) > 0;
  }

  const std::string id_;
  const std::string model_;
  const bool raw_;
  std::set<std::string> requested_;  // empty: all
  bool sent_text_ = false;
};

}  // namespace lectern::open_inference
