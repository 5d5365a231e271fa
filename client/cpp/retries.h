// Whether a failed call is tried again, and after which wait.
#pragma once

#include <map>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cpp/call_options.h"

namespace lectern {

// The attempts of one call. Not thread-safe.
class Retries {
 public:
  // `options` outlives this object.
  Retries(const CallOptions& options, absl::Time deadline);

  // Whether the call is to be made again after `failed`, which came from `peer` (gRPC's name of the
  // replica's address; may be empty). If so, has told on_retry and waited. CANCELLED is seen while
  // it waits.
  bool Again(const absl::Status& failed, const std::string& peer);

  // The document was sent to `peer`.
  void Uploaded(const std::string& peer) { ++uploads_to_[peer]; }

  // The policy alone: what kind of failure is tried again, whatever has happened so far.
  bool Retryable(const absl::Status& failed) const;

  // A document that the server does not have, while the caller has its text.
  bool NeedsUpload(const absl::Status& failed) const;

  absl::Time deadline() const { return deadline_; }

 private:
  absl::Duration WaitAfter(const absl::Status& failed);
  // False if cancelled meanwhile.
  bool Sleep(absl::Duration wait) const;

  const CallOptions& options_;
  const absl::Time deadline_;
  int attempt_ = 1;
  absl::Duration next_wait_;
  std::map<std::string, int> uploads_to_;
  std::mt19937_64 random_;
};

}  // namespace lectern
