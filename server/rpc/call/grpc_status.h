// Converts absl::Status to gRPC: code, message, and google.rpc details from ErrorDetails
// (base/error_details.h).
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace google::rpc {
class Status;
}

namespace lectern {

// Details that would exceed 4 KiB are left out (clients accept 8 KiB of metadata). The text of
// INTERNAL and UNKNOWN errors goes only to the log (CallRecord::Failed), because it may name paths.
google::rpc::Status ToRpcStatus(const absl::Status& status);
grpc::Status ToGrpcStatus(const absl::Status& status);

// Returns "INVALID_ARGUMENT" and so on: the label grpc_status of the call metrics.
std::string StatusName(grpc::StatusCode code);

}  // namespace lectern
