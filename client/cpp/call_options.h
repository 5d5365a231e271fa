// What every call of the client library may be given: deadline, cancellation, who asks, and what is
// tried again when it fails.
#pragma once

#include <grpcpp/client_context.h>
#include <lectern/v1/document.pb.h>

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace lectern {

// Ends calls from another thread. Thread-safe; outlives the calls it was given to.
class Canceller {
 public:
  // Every call that runs under this object, now or later, ends with CANCELLED.
  void Cancel();
  bool cancelled() const;

 private:
  friend class CallScope;
  friend class Retries;
  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* running_ ABSL_GUARDED_BY(mutex_) = nullptr;  // one call at a time
};

// When Upload, Ask and AskMany try again on their own:
//   UNAVAILABLE               a replica drains, restarts or was lost; another one takes over
//   UNKNOWN, INTERNAL         without a reason: a proxy's stream broke off
//   CANCELLED                 by nobody here: the replica was just shutting down
//   RESOURCE_EXHAUSTED        with RetryInfo, and only if `when_full` says so
//   NOT_FOUND of a document   after uploading it, if CallOptions.document has its text
//
// Waits grow from `first_wait`, doubling up to `longest_wait`, with jitter; what the server asks
// for in RetryInfo is waited for in full. A wait that would pass the deadline is not begun: the
// call ends with the error that it had.
struct RetryPolicy {
  int max_attempts =
      5;  // of one call, the first and those after an upload included; 1: never again
  bool when_full = false;
  absl::Duration first_wait = absl::Milliseconds(200);
  absl::Duration longest_wait = absl::Seconds(5);
};

// Tells that a call is about to be tried again.
struct RetryNotice {
  absl::Status cause;
  int attempt = 0;       // the number of the one that comes: 2, 3, ...
  absl::Duration wait;   // before it
  bool uploads = false;  // the document is uploaded first
};

using UploadCallback = std::function<void(const lectern::v1::UploadDocumentResponse&)>;

// Where a document's text can be had whenever a server needs it (again).
struct DocumentSource {
  std::function<absl::StatusOr<std::string>()> text;  // called on the thread of the call
  lectern::v1::UploadMetadata metadata;
  UploadCallback on_event;  // may be empty
};

DocumentSource TextSource(std::string text);
DocumentSource FileSource(const std::string& path);  // read when it is needed

struct CallOptions {
  // The call's deadline, retries included. The shorter of this and the method's timeout in
  // client/cpp/service_config.json holds for each attempt (300 s for Ask and GetDocument, 600 s for
  // UploadDocument).
  absl::Duration timeout = absl::InfiniteDuration();
  Canceller* canceller = nullptr;  // may be null
  std::string tenant;              // x-lectern-tenant; empty: the server takes the peer's address
  std::string token;       // authorization: Bearer TOKEN; names the tenant where it is asked for
  std::string request_id;  // x-request-id; empty: the server makes one up
  RetryPolicy retry = {};
  std::function<void(const RetryNotice&)> on_retry = {};
  // Of Ask and AskMany: the document that is asked about, for servers that do not have it (any
  // more). Not owned; may be null.
  const DocumentSource* document = nullptr;
};

}  // namespace lectern
