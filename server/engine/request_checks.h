// Checks requests. Every violated field is reported, not only the first.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/error_details.h"
#include "server/engine/api.h"
#include "server/model/model.h"

namespace lectern {

// Returns OK without violations, or INVALID_ARGUMENT (INVALID_REQUEST) with all of them.
absl::Status ViolationsError(const std::vector<FieldViolation>& violations);

absl::Status CheckUpload(const UploadOptions& options, const EngineLimits& limits,
                         const ModelInfo& model);
// A text whose tokens are to be counted.
absl::Status CheckText(const std::string& text, const EngineLimits& limits);
absl::Status CheckAsk(const AskOptions& options, const EngineLimits& limits,
                      const ModelInfo& model);

// Returns the model of that name, or the first if the name is empty. NOT_FOUND (MODEL_NOT_FOUND)
// names `field`.
absl::StatusOr<std::shared_ptr<const Model>> FindModel(
    const std::vector<std::shared_ptr<const Model>>& models, const std::string& name,
    const char* field);

// Tokens of a prompt and its answer.
struct PromptTokens {
  uint64_t document = 0;        // or of the part of it that the prompt holds
  bool whole_document = false;  // the prompt holds all of it
  uint64_t question = 0;
  uint64_t answer = 0;
};

// INVALID_ARGUMENT with all counts unless `tokens` fit the context length: DOCUMENT_TOO_LONG where
// a shorter document would fit, otherwise QUESTION_TOO_LONG, which names the field `question`.
absl::Status CheckContextLength(const PromptTokens& tokens, const ModelInfo& model);

}  // namespace lectern
