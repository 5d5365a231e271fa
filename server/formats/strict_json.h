// JSON from untrusted files: bounded depth and number of values, no duplicate keys.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace lectern {

// An object, or INVALID_ARGUMENT naming `file` and what is wrong. Limits: loader_limits.h.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view contents, std::string_view file);
// The same for a config.json, which is small.
absl::StatusOr<nlohmann::json> ParseConfigJson(std::string_view contents, std::string_view file);

}  // namespace lectern
