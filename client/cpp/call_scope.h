// One attempt of one call.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cpp/call_options.h"

namespace lectern {

// INVALID_ARGUMENT when `tenant`, `token` or `request_id` is not what document_qa.proto allows:
// gRPC would end the process for some bytes.
absl::Status CheckOptions(const CallOptions& options);

// When a call that begins now has to end.
absl::Time DeadlineOf(const CallOptions& options);

// Holds a call's context, with deadline and metadata, and makes it reachable for its Canceller.
class CallScope {
 public:
  // `options` outlives this object. `document_id` is the document that the call is about, for the
  // proxies on its way; may be empty.
  CallScope(const CallOptions& options, absl::Time deadline, const std::string& document_id = "");
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  grpc::ClientContext* context() { return &context_; }

  // FromGrpcStatus(), with the id under which the server logged the call as metadata "request_id".
  absl::Status ToStatus(const grpc::Status& status) const;

 private:
  grpc::ClientContext context_;
  Canceller* const canceller_;
};

}  // namespace lectern
