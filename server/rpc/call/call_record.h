// One RPC from its start to its status: who calls, under which ids, what went over the wire; at the
// end metrics and one line in the log.
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

// What all calls share. Outlives them.
struct RpcEnvironment {
  ServerMetrics* metrics = nullptr;
  std::string version;
  // A stream whose reader takes no message for that long is ended.
  absl::Duration slow_reader_timeout = absl::Seconds(30);
  bool log_prompts = false;              // questions and answers in the log
  const AccessTokens* tokens = nullptr;  // null: nobody is asked for one
};

// The caller, as its metadata tell.
struct CallIdentity {
  std::string request_id;  // `x-request-id` if it is [A-Za-z0-9._-]{1,128}, else a new one
  std::string trace_id;    // of a valid `traceparent`, else ""
  std::string peer;
  // Where tokens are asked for: that of the token, or UNAUTHENTICATED. Elsewhere
  // `x-lectern-tenant`, [A-Za-z0-9._-]{1,64}, or the peer's address without its port;
  // INVALID_ARGUMENT for any other value.
  absl::StatusOr<std::string> tenant;
  // Whose documents it sees: the tenant if a token or the metadata name one, else "".
  std::string owner;
};

CallIdentity IdentityOf(const grpc::CallbackServerContext& context, const AccessTokens* tokens);

// "ipv4:10.0.0.7:5555" and "ipv6:%5B::1%5D:80" without scheme and port: "10.0.0.7", "::1".
std::string AddressOfPeer(const std::string& peer);

// Thread-safe. `method` is "lectern.v1.DocumentQA/Ask"; health checks and readiness are logged at
// debug level.
class CallRecord {
 public:
  // Puts the request id into the trailing metadata.
  CallRecord(const RpcEnvironment* environment, const std::string& method,
             grpc::CallbackServerContext* context);

  const CallIdentity& identity() const { return identity_; }
  const RpcEnvironment& environment() const { return *environment_; }

  void Received(size_t bytes) { bytes_in_ += bytes; }
  void Sent(size_t bytes) {
    bytes_out_ += bytes;
    ++chunks_;
  }
  // More fields for the line at the end.
  void Add(std::vector<LogField> fields) ABSL_LOCKS_EXCLUDED(mutex_);
  // Why the call failed: the reason goes into the line at the end.
  void Failed(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // What clients are not told (the text of INTERNAL and UNKNOWN) gets a line of its own.
  void LogIfInternal(const absl::Status& status) const;
  // A line about a part of the call, under its ids.
  void LogPart(std::string_view message, std::vector<LogField> fields) const;

  // Call once, at the end.
  void Finish(grpc::StatusCode code) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  std::vector<LogField> Ids() const;

  const RpcEnvironment* const environment_;
  const std::string method_;
  const CallIdentity identity_;
  const std::chrono::steady_clock::time_point start_;
  std::atomic<uint64_t> bytes_in_{0};
  std::atomic<uint64_t> bytes_out_{0};
  std::atomic<uint64_t> chunks_{0};
  absl::Mutex mutex_;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
  std::vector<LogField> fields_ ABSL_GUARDED_BY(mutex_);
};

// The ErrorInfo reason of a failure, or its code's name.
std::string ReasonOf(const absl::Status& status);

}  // namespace lectern
