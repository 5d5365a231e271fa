// JSON from untrusted files: bounded depth and number of values, no duplicate keys.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace lectern {

// An object, or INVALID_ARGUMENT naming `file` and the fault. The limits are in format_limits.h.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view contents, std::string_view file);
// Like ParseJsonObject, with lower limits, for a config.json.
absl::StatusOr<nlohmann::json> ParseConfigJson(std::string_view contents, std::string_view file);

}  // namespace lectern
