// Converts gRPC's status to absl::Status: the counterpart of server/rpc/call/grpc_status.h.
#pragma once

#include <grpcpp/support/status.h>
#include <lectern/v1/ask.pb.h>

#include "absl/status/status.h"

namespace lectern {

// Keeps code and message. The contents of `grpc-status-details-bin` (a google.rpc.Status with
// ErrorInfo, BadRequest, RetryInfo and ResourceInfo) are attached as ErrorDetails
// (base/error_details.h); details that do not parse are left out. A failure without a reason came
// from the transport or a proxy, not from a Lectern server.
absl::Status FromGrpcStatus(const grpc::Status& status);

// Converts the error of one question of an AskMany stream in the same way.
absl::Status FromAskError(const lectern::v1::AskError& error);

}  // namespace lectern
