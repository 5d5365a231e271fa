// Parameters of a request. Each is a field of AskRequest, with that field's type.
#pragma once

#include <inference/open_inference.pb.h>
#include <lectern/v1/ask.pb.h>

#include <string>
#include <vector>

#include "base/error_details.h"

namespace lectern::open_inference {

// Sets the fields that the request's parameters and its tensor `parameters` (a JSON object, or ""
// if there is none) name. Unknown names, values of another type and names given twice are
// violations.
void ApplyParameters(const inference::ModelInferRequest& request, const std::string& json,
                     v1::AskRequest& ask, std::vector<FieldViolation>& violations);

}  // namespace lectern::open_inference
