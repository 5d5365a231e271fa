// One Ask or AskMany over all of its attempts: chooses the replica for the next attempt and uploads
// the document to it if needed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "client/cpp/call_scope.h"
#include "client/cpp/channels.h"
#include "client/cpp/document_ids.h"
#include "client/cpp/retries.h"
#include "lectern/call_options.h"

namespace lectern {

// Makes one attempt to upload `text`. `metadata` must hold its size and digest: see Described().
absl::StatusOr<lectern::v1::Document> UploadOnce(Channels::Stub& stub, std::string_view text,
                                                 const lectern::v1::UploadMetadata& metadata,
                                                 CallScope& scope, const UploadCallback& on_event);

// Returns `metadata` with the size and digest of `text`.
lectern::v1::UploadMetadata Described(lectern::v1::UploadMetadata metadata, std::string_view text);

// The error for a stream that ended with OK but without its last message, `what`.
absl::Status NoLastMessage(const char* what);

// Not thread-safe.
class Session {
 public:
  // `channels`, `ids` and `options` must outlive this object. `document_id` may be empty.
  Session(Channels& channels, DocumentIds& ids, const CallOptions& options,
          std::string document_id);

  // Uploads the document if the caller gave its text but no id.
  absl::Status Begin();
  const std::string& document_id() const { return document_id_; }

  // Returns the stub for the next attempt.
  std::shared_ptr<Channels::Stub> stub();
  absl::Time deadline() const { return retries_.deadline(); }
  // Records which replica an attempt reached.
  void Reached(const std::string& peer) { peer_ = peer; }

  bool Retryable(const absl::Status& failed) const { return retries_.Retryable(failed); }
  // Waits, uploads the document if it is missing, and returns whether to make the call again. If it
  // returns false, `failed` is the error to report.
  bool Recover(absl::Status& failed);

 private:
  absl::Status Upload();

  Channels& channels_;
  DocumentIds& ids_;
  const CallOptions& options_;
  Retries retries_;
  std::string document_id_;
  std::string peer_;  // the replica of the last attempt, or of the next one; empty: any
};

}  // namespace lectern
