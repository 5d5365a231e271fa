// Decides whether a failed call is retried, and after which wait.
#pragma once

#include <map>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lectern/call_options.h"

namespace lectern {

// The attempts of one call. Not thread-safe.
class Retries {
 public:
  // `options` must outlive this object.
  Retries(const CallOptions& options, absl::Time deadline);

  // Returns whether to make the call again after `failed`, which came from `peer` (gRPC's name for
  // the replica's address; may be empty). Before it returns true it calls on_retry and waits.
  // Returns false if the call is cancelled during the wait.
  bool Again(const absl::Status& failed, const std::string& peer);

  // Records that the document was sent to `peer`.
  void Uploaded(const std::string& peer) { ++uploads_to_[peer]; }

  // Whether the policy allows a retry after `failed`, regardless of earlier attempts.
  bool Retryable(const absl::Status& failed) const;

  // Whether the server lacks the document and the caller has its text.
  bool NeedsUpload(const absl::Status& failed) const;

  absl::Time deadline() const { return deadline_; }

 private:
  absl::Duration WaitAfter(const absl::Status& failed);
  // Returns false if the call was cancelled during the wait.
  bool Sleep(absl::Duration wait) const;

  const CallOptions& options_;
  const absl::Time deadline_;
  int attempt_ = 1;
  absl::Duration next_wait_;
  std::map<std::string, int> uploads_to_;
  std::mt19937_64 random_;
};

}  // namespace lectern
