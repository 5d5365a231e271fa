// What a request may say. Every violated field is reported, not the first alone.
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

// OK, or INVALID_ARGUMENT (INVALID_REQUEST) with all violations.
absl::Status ViolationsError(const std::vector<FieldViolation>& violations);

absl::Status CheckUpload(const UploadOptions& options, const EngineLimits& limits,
                         const ModelInfo& model);
absl::Status CheckAsk(const AskOptions& options, const EngineLimits& limits,
                      const ModelInfo& model);

// The model of that name, the first if it is empty; NOT_FOUND (MODEL_NOT_FOUND) naming `field`.
absl::StatusOr<std::shared_ptr<const Model>> FindModel(
    const std::vector<std::shared_ptr<const Model>>& models, const std::string& name,
    const char* field);

// The policy that a checked choice means for a model, with nothing left open.
AttentionPolicy ResolvePolicy(const AttentionChoice& choice, const ModelInfo& model);

// INVALID_ARGUMENT, DOCUMENT_TOO_LONG with both counts, unless `tokens` fit the window.
absl::Status CheckWindow(uint64_t document_tokens, uint64_t question_tokens, uint64_t answer_tokens,
                         const ModelInfo& model);

}  // namespace lectern
