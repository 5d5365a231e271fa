// Who may call: bearer tokens, each of which stands for a tenant.
//
// The file names digests, not tokens, so that reading it lets nobody in:
//
//   {"tokens": [{"tenant": "acme", "sha256": "9f86d081884c7d659a2feaa0c55ad015..."}, ...]}
//
// A tenant may have several tokens: the old one and the new one while they change. A plain SHA-256
// is enough for tokens of 128 random bits and more, which nobody can guess; it is not for
// passwords.
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
  // Takes the tokens of `json` in place of those it had. INVALID_ARGUMENT, which names what is
  // wrong and where, changes nothing.
  absl::Status Load(std::string_view json) ABSL_LOCKS_EXCLUDED(mutex_);

  // The tenant of "Bearer TOKEN", the value of the metadata `authorization`. UNAUTHENTICATED with
  // TOKEN_MISSING or TOKEN_UNKNOWN. Takes the same time whatever the token has in common with
  // others.
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
