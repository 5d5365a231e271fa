// The one bridge from absl::Status to gRPC: code, message, and google.rpc details made from
// ErrorDetails (base/error_details.h).
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace google::rpc {
class Status;
}

namespace lectern {

// Details are left out, largest first, rather than exceed 4 KiB (clients take 8 KiB of metadata).
// The text of INTERNAL and UNKNOWN errors is for the log alone (CallRecord::Failed): it may name
// paths.
google::rpc::Status ToRpcStatus(const absl::Status& status);
grpc::Status ToGrpcStatus(const absl::Status& status);

// "INVALID_ARGUMENT", ...: the label of the call metrics.
std::string StatusName(grpc::StatusCode code);

}  // namespace lectern
