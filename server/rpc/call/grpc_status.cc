#include "server/rpc/call/grpc_status.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>

#include <string>

#include "absl/time/time.h"
#include "base/error_details.h"
#include "base/utf8.h"

namespace lectern {
namespace {

constexpr size_t kMaxDetailBytes = 4096;
constexpr size_t kMaxViolationBytes = 3584;  // leaves room for the other details
constexpr char kDomain[] = "lectern";

void AddDetail(const google::protobuf::Message& detail, google::rpc::Status& status) {
  status.add_details()->PackFrom(detail);
  if (status.ByteSizeLong() > kMaxDetailBytes) status.mutable_details()->RemoveLast();
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  const timespec time = absl::ToTimespec(duration);
  proto.set_seconds(time.tv_sec);
  proto.set_nanos(static_cast<int32_t>(time.tv_nsec));
  return proto;
}

}  // namespace

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(status.code()));
  const bool hidden = absl::IsInternal(status) || absl::IsUnknown(status);
  const ErrorDetails details = GetErrorDetails(status);
  if (hidden) {
    proto.set_message("internal error");
  } else {
    // The cut may fall inside a character, and clients cannot parse a reply with invalid UTF-8.
    proto.set_message(ReplaceInvalidUtf8(std::string(status.message()).substr(0, 1024)));
  }
  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  info.set_reason(!details.reason.empty() ? details.reason
                                          : std::string(absl::StatusCodeToString(status.code())));
  for (const auto& [key, value] : details.metadata) (*info.mutable_metadata())[key] = value;
  AddDetail(info, proto);
  if (!details.field_violations.empty()) {
    google::rpc::BadRequest bad;
    for (const FieldViolation& violation : details.field_violations) {
      auto* added = bad.add_field_violations();
      added->set_field(violation.field);
      added->set_description(violation.description);
      if (proto.ByteSizeLong() + bad.ByteSizeLong() > kMaxViolationBytes) {
        bad.mutable_field_violations()->RemoveLast();
        break;
      }
    }
    AddDetail(bad, proto);
  }
  if (details.retry_after) {
    google::rpc::RetryInfo retry;
    *retry.mutable_retry_delay() = ToProto(*details.retry_after);
    AddDetail(retry, proto);
  }
  if (!details.resource_name.empty()) {
    google::rpc::ResourceInfo resource;
    resource.set_resource_type(details.resource_type);
    resource.set_resource_name(details.resource_name);
    AddDetail(resource, proto);
  }
  return proto;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status proto = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(proto.code()), proto.message(),
                      proto.SerializeAsString());
}

std::string StatusName(grpc::StatusCode code) {
  if (code == grpc::StatusCode::OK) return "OK";
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

}  // namespace lectern
