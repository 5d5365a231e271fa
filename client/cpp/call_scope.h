// One attempt of one call.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lectern/call_options.h"

namespace lectern {

// INVALID_ARGUMENT if `tenant`, `token` or `request_id` has characters that document_qa.proto does
// not allow: with some of them gRPC would abort the process.
absl::Status CheckOptions(const CallOptions& options);

// The deadline of a call that begins now.
absl::Time DeadlineOf(const CallOptions& options);

// Holds a call's context, with deadline and metadata, and registers it with the call's Canceller.
class CallScope {
 public:
  // `options` must outlive this object. `document_id` names the call's document, for proxies that
  // route by it; it may be empty.
  CallScope(const CallOptions& options, absl::Time deadline, const std::string& document_id = "");
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  grpc::ClientContext* context() { return &context_; }

  // Converts `status` by FromGrpcStatus() and adds the id under which the server logged the call as
  // metadata "request_id".
  absl::Status ToStatus(const grpc::Status& status) const;

 private:
  grpc::ClientContext context_;
  Canceller* const canceller_;
};

}  // namespace lectern
