// Converts between the messages of the Open Inference Protocol and those of Ask. No logic:
// questions are checked as those of Ask are; only what these messages alone can get wrong is
// checked here.
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

// A model has one version, "1". INVALID_ARGUMENT unless `version` is "1" or empty.
absl::Status CheckVersion(const std::string& version, const char* field);

// Renames the fields of Ask in an error of the engine to inputs and parameters; returns other
// errors unchanged.
absl::Status WithNamesOfInputs(const absl::Status& status);

inference::ModelMetadataResponse MetadataOf(const ModelInfo& model);
inference::ModelConfig ConfigOf(const ModelInfo& model);

// Builds the responses to one request: its id, the outputs it asks for, the form of its tensors.
class InferResponses {
 public:
  explicit InferResponses(const inference::ModelInferRequest& request);

  // Builds a response with the next piece of the answer; false if the request does not ask for the
  // output `delta`.
  bool Delta(std::string_view text, inference::ModelInferResponse& out);
  inference::ModelInferResponse Final(const Answer& answer) const;
  // A response without outputs.
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
