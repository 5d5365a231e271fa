// Records one RPC from its start to its status: the caller, the ids, the bytes on the wire. At the
// end it updates the metrics and writes one line to the log.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "server/metrics/server_metrics.h"
#include "server/rpc/call/access_tokens.h"

namespace lectern {

// Settings and services that all calls share. Outlives them.
struct RpcEnvironment {
  ServerMetrics* metrics = nullptr;
  std::string version;
  // A stream whose reader takes no message for this long is ended.
  absl::Duration slow_reader_timeout = absl::Seconds(30);
  bool log_prompts = false;              // questions and answers in the log
  const AccessTokens* tokens = nullptr;  // null: callers need no token
};

// The caller, as described by its metadata.
struct CallIdentity {
  std::string request_id;  // `x-request-id` if it is [A-Za-z0-9._-]{1,128}, else a new one
  std::string trace_id;    // of a valid `traceparent`, else ""
  std::string peer;
  // With tokens: the token's tenant, or UNAUTHENTICATED. Without: `x-lectern-tenant`,
  // [A-Za-z0-9._-]{1,64}, or the peer's address without its port; INVALID_ARGUMENT for any other
  // value.
  absl::StatusOr<std::string> tenant;
  // The owner whose documents the caller sees: the tenant if a token or the metadata name one, else
  // "".
  std::string owner;
};

CallIdentity IdentityOf(const grpc::CallbackServerContext& context, const AccessTokens* tokens);

// Strips scheme and port: "10.0.0.7" of "ipv4:10.0.0.7:5555", "::1" of "ipv6:%5B::1%5D:80".
std::string AddressOfPeer(const std::string& peer);

// Thread-safe. Health checks and readiness probes are logged at debug level.
class CallRecord {
 public:
  // Adds the request id to the trailing metadata.
  CallRecord(const RpcEnvironment* environment, RpcMethod method,
             grpc::CallbackServerContext* context);
  // Records a call of a method that no service has: counted as RpcMethod::kUnknown, logged as
  // `name`.
  CallRecord(const RpcEnvironment* environment, const std::string& name,
             grpc::CallbackServerContext* context);

  const CallIdentity& identity() const { return identity_; }
  const RpcEnvironment& environment() const { return *environment_; }

  void Received(size_t bytes) { bytes_in_ += bytes; }
  void Sent(size_t bytes) {
    bytes_out_ += bytes;
    ++chunks_;
  }
  // Adds fields to the line at the end.
  void Add(std::vector<LogField> fields) ABSL_LOCKS_EXCLUDED(mutex_);
  // Adds the reason of a failure to the line at the end.
  void Failed(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // Logs the text of INTERNAL and UNKNOWN errors, which clients do not receive, in a separate line.
  void LogIfInternal(const absl::Status& status) const;
  // Logs a line about a part of the call, with the call's ids.
  void LogPart(std::string_view message, std::vector<LogField> fields) const;

  // Call once, at the end.
  void Finish(grpc::StatusCode code) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  CallRecord(const RpcEnvironment* environment, RpcMethod method, std::string name,
             grpc::CallbackServerContext* context);
  std::vector<LogField> Ids() const;

  const RpcEnvironment* const environment_;
  const RpcMethod method_;
  const std::string name_;
  const CallIdentity identity_;
  const std::chrono::steady_clock::time_point start_;
  std::atomic<uint64_t> bytes_in_{0};
  std::atomic<uint64_t> bytes_out_{0};
  std::atomic<uint64_t> chunks_{0};
  absl::Mutex mutex_;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
  std::vector<LogField> fields_ ABSL_GUARDED_BY(mutex_);
};

// Returns the ErrorInfo reason of a failure, or the name of its code.
std::string ReasonOf(const absl::Status& status);

}  // namespace lectern
