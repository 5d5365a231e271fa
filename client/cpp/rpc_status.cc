#include "client/cpp/rpc_status.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>

#include "absl/time/time.h"
#include "base/error_details.h"

namespace lectern {
namespace {

void AddDetail(const google::protobuf::Any& any, ErrorDetails& details) {
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  google::rpc::RetryInfo retry;
  google::rpc::ResourceInfo resource;
  if (any.UnpackTo(&info)) {
    details.reason = info.reason();
    for (const auto& [key, value] : info.metadata()) details.metadata[key] = value;
  } else if (any.UnpackTo(&bad)) {
    for (const auto& violation : bad.field_violations()) {
      details.field_violations.push_back({violation.field(), violation.description()});
    }
  } else if (any.UnpackTo(&retry)) {
    details.retry_after = absl::Seconds(retry.retry_delay().seconds()) +
                          absl::Nanoseconds(retry.retry_delay().nanos());
  } else if (any.UnpackTo(&resource)) {
    details.resource_type = resource.resource_type();
    details.resource_name = resource.resource_name();
  }
}

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  ErrorDetails details;
  google::rpc::Status proto;
  if (proto.ParseFromString(status.error_details())) {
    for (const auto& any : proto.details()) AddDetail(any, details);
  }
  return MakeError(static_cast<absl::StatusCode>(status.error_code()), status.error_message(),
                   details);
}

absl::Status FromAskError(const lectern::v1::AskError& error) {
  // A failed question is never OK, even if the server left the code out.
  const auto code =
      error.code() == 0 ? grpc::StatusCode::UNKNOWN : static_cast<grpc::StatusCode>(error.code());
  return FromGrpcStatus(grpc::Status(code, error.message(), error.status()));
}

}  // namespace lectern
