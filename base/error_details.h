// Typed errors: an absl::Status with its reason in machine-readable form. server/rpc turns them
// into google.rpc.ErrorInfo, BadRequest, RetryInfo and ResourceInfo; nothing below rpc knows
// protobuf.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace lectern {

struct FieldViolation {
  std::string field;        // path in the request, e.g. "attention.top_k"
  std::string description;  // what is allowed
};

// All parts are optional. `reason` is UPPER_SNAKE_CASE from the table in docs/reference/errors.md,
// e.g. "DOCUMENT_TOO_LONG"; `metadata` holds figures such as {"tokens", "9000"}, {"limit", "8192"}.
struct ErrorDetails {
  std::string reason;
  std::map<std::string, std::string> metadata;
  std::vector<FieldViolation> field_violations;
  std::optional<absl::Duration> retry_after;
  std::string resource_type;  // e.g. "document"; with resource_name becomes ResourceInfo
  std::string resource_name;
};

// A status of `code` (not OK) with details attached as a payload.
absl::Status MakeError(absl::StatusCode code, std::string_view message,
                       const ErrorDetails& details);

// The details attached to `status`, or empty ones.
ErrorDetails GetErrorDetails(const absl::Status& status);

}  // namespace lectern
