// One Ask or AskMany over all of its attempts: which replica the next one goes to, and how the
// document gets there.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "client/cpp/call_options.h"
#include "client/cpp/call_scope.h"
#include "client/cpp/channels.h"
#include "client/cpp/document_ids.h"
#include "client/cpp/retries.h"

namespace lectern {

// One attempt to send `text`. `metadata` holds its size and digest (Described()).
absl::StatusOr<lectern::v1::Document> UploadOnce(Channels::Stub& stub, std::string_view text,
                                                 const lectern::v1::UploadMetadata& metadata,
                                                 CallScope& scope, const UploadCallback& on_event);
lectern::v1::UploadMetadata Described(lectern::v1::UploadMetadata metadata, std::string_view text);

// The error of a stream that ended well but without its `what`.
absl::Status NoLastMessage(const char* what);

// Not thread-safe.
class Session {
 public:
  // `channels`, `ids` and `options` outlive this object. `document_id` may be empty.
  Session(Channels& channels, DocumentIds& ids, const CallOptions& options,
          std::string document_id);

  // Uploads the document if the caller gave it without an id.
  absl::Status Begin();
  const std::string& document_id() const { return document_id_; }

  // The stub for the next attempt.
  std::shared_ptr<Channels::Stub> stub();
  absl::Time deadline() const { return retries_.deadline(); }
  // After an attempt: which replica it reached.
  void Reached(const std::string& peer) { peer_ = peer; }

  bool Retryable(const absl::Status& failed) const { return retries_.Retryable(failed); }
  // Waits, uploads the document where it is missing, and returns true if the call is to be made
  // again. If not, `failed` is the error to report.
  bool Recover(absl::Status& failed);

 private:
  absl::Status Upload();

  Channels& channels_;
  DocumentIds& ids_;
  const CallOptions& options_;
  Retries retries_;
  std::string document_id_;
  std::string peer_;  // the replica of the last attempt, then that of the next; empty: any
};

}  // namespace lectern
