#include "base/error_details.h"

#include <nlohmann/json.hpp>

#include "absl/strings/cord.h"

namespace lectern {
namespace {

using nlohmann::json;

constexpr char kPayloadType[] = "lectern/error-details";

std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, std::string_view message,
                       const ErrorDetails& details) {
  json payload = {{"reason", details.reason},
                  {"metadata", details.metadata},
                  {"resource_type", details.resource_type},
                  {"resource_name", details.resource_name},
                  {"violations", json::array()}};
  for (const FieldViolation& violation : details.field_violations) {
    payload["violations"].push_back({violation.field, violation.description});
  }
  if (details.retry_after) {
    payload["retry_after_ms"] = absl::ToInt64Milliseconds(*details.retry_after);
  }
  absl::Status status(code, absl::string_view(message.data(), message.size()));
  status.SetPayload(kPayloadType, absl::Cord(Dump(payload)));
  return status;
}

ErrorDetails GetErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  const auto cord = status.GetPayload(kPayloadType);
  if (!cord) return details;
  const json payload = json::parse(std::string(*cord), nullptr, /*allow_exceptions=*/false);
  if (!payload.is_object()) return details;
  details.reason = payload.value("reason", "");
  details.metadata = payload.value("metadata", std::map<std::string, std::string>());
  details.resource_type = payload.value("resource_type", "");
  details.resource_name = payload.value("resource_name", "");
  for (const json& violation : payload["violations"]) {
    details.field_violations.push_back({violation[0], violation[1]});
  }
  if (payload.contains("retry_after_ms")) {
    details.retry_after = absl::Milliseconds(payload["retry_after_ms"].get<int64_t>());
  }
  return details;
}

}  // namespace lectern
