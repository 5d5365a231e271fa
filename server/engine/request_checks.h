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

// INVALID_ARGUMENT, DOCUMENT_TOO_LONG with both counts, unless `tokens` fit the window.
absl::Status CheckWindow(uint64_t document_tokens, uint64_t question_tokens, uint64_t answer_tokens,
                         const ModelInfo& model);

}  // namespace lectern
