// Options of every call of the client: deadline, cancellation, identity, and which failures are
// retried.
#pragma once

#include <lectern/v1/document.pb.h>

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace grpc {
class ClientContext;
}  // namespace grpc

namespace lectern {

// Ends calls from another thread. Thread-safe; must outlive the calls that use it. Serves one call
// at a time.
class Canceller {
 public:
  // Ends the call that uses this object, and every later one, with CANCELLED.
  void Cancel();
  bool cancelled() const;

 private:
  friend class CallScope;
  friend class Retries;
  mutable absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* running_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

// Limits the retries of Upload, Ask and AskMany, which retry these failures:
//   UNAVAILABLE               a replica drains, restarts or is gone; another one takes over
//   UNKNOWN, INTERNAL         without a reason: a proxy's stream broke off
//   CANCELLED                 not by the caller: the replica was shutting down
//   RESOURCE_EXHAUSTED        with RetryInfo, and only with `when_full`
//   NOT_FOUND (a document)    after uploading it, if CallOptions.document has its text
//
// Waits start at `first_wait` and double up to `longest_wait`, with jitter; a wait that the server
// requests in RetryInfo is kept in full. If a wait would pass the deadline, the call fails at once
// with the error that it had.
struct RetryPolicy {
  int max_attempts =
      5;  // of one call, including the first and those after an upload; 1: no retries
  bool when_full = false;
  absl::Duration first_wait = absl::Milliseconds(200);
  absl::Duration longest_wait = absl::Seconds(5);
};

// Announces that a call is about to be retried.
struct RetryNotice {
  absl::Status cause;
  int attempt = 0;       // the number of the coming attempt: 2, 3, ...
  absl::Duration wait;   // before that attempt
  bool uploads = false;  // whether the document is uploaded first
};

using UploadCallback = std::function<void(const lectern::v1::UploadDocumentResponse&)>;

// Provides a document's text whenever a server needs it.
struct DocumentSource {
  std::function<absl::StatusOr<std::string>()> text;  // called on the thread of the call
  lectern::v1::UploadMetadata metadata;
  UploadCallback on_event;  // may be empty
};

DocumentSource TextSource(std::string text);
DocumentSource FileSource(const std::string& path);  // reads the file each time the text is needed

struct CallOptions {
  // Deadline of the call, retries included. Each attempt is also limited by the method's timeout in
  // client/cpp/service_config.json (300 s for Ask and GetDocument, 600 s for UploadDocument).
  absl::Duration timeout = absl::InfiniteDuration();
  Canceller* canceller = nullptr;  // not owned; may be null
  std::string tenant;              // x-lectern-tenant; empty: the server uses the peer's address
  std::string token;  // "authorization: Bearer TOKEN"; names the tenant on servers that require one
  std::string request_id;  // x-request-id; empty: the server makes one up
  RetryPolicy retry = {};
  std::function<void(const RetryNotice&)> on_retry = {};
  // For Ask and AskMany: the document of the questions, uploaded to servers that do not have it.
  // Not owned; may be null.
  const DocumentSource* document = nullptr;
};

}  // namespace lectern
