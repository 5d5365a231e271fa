// Authenticates callers by bearer tokens, each of which belongs to a tenant.
//
// The file holds digests, not tokens, so that reading it gives nobody access:
//
//   {"tokens": [{"tenant": "acme", "sha256": "9f86d081884c7d659a2feaa0c55ad015..."}, ...]}
//
// A tenant may have several tokens, for example an old and a new one during a rotation. A plain
// SHA-256 is enough for tokens of at least 128 random bits, which nobody can guess; it is not
// enough for passwords.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace lectern {

// Thread-safe.
class AccessTokens {
 public:
  // Replaces the tokens by those of `json`. On INVALID_ARGUMENT, which names the fault and its
  // place, the tokens stay as they were.
  absl::Status Load(std::string_view json) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the tenant of "Bearer TOKEN", the value of the metadata `authorization`, or
  // UNAUTHENTICATED with TOKEN_MISSING or TOKEN_UNKNOWN. The time it takes does not depend on what
  // the token has in common with known ones.
  absl::StatusOr<std::string> TenantOf(std::string_view authorization) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::string tenant;
    std::string sha256;  // 64 lower-case hexadecimal digits
  };
  using Entries = std::vector<Entry>;
  static absl::StatusOr<Entries> Parse(std::string_view json);

  mutable absl::Mutex mutex_;
  std::shared_ptr<const Entries> entries_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<const Entries>();
};

}  // namespace lectern
