// From gRPC's status to ours: the counterpart of server/rpc/call/grpc_status.h.
#pragma once

#include <grpcpp/support/status.h>
#include <lectern/v1/ask.pb.h>

#include "absl/status/status.h"

namespace lectern {

// The same code and message. What `grpc-status-details-bin` holds (a google.rpc.Status with
// ErrorInfo, BadRequest, RetryInfo and ResourceInfo) is attached as ErrorDetails
// (base/error_details.h); details that do not parse are left out. A failure without a reason
// did not come from a Lectern server but from the transport or a proxy.
absl::Status FromGrpcStatus(const grpc::Status& status);

// The same for a failed question of an AskMany stream.
absl::Status FromAskError(const lectern::v1::AskError& error);

}  // namespace lectern
