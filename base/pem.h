// Checks certificates and keys in PEM before the server uses them.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lectern {

// Whether a server can serve with `chain` (its own certificate first) and `key`: both parse to
// their ends, belong together, the key needs no password, the certificate is for servers and valid
// at `now`, and each certificate is issued by the next. Returns the time at which the first of them
// expires.
absl::StatusOr<absl::Time> CheckKeyPair(std::string_view chain, std::string_view key,
                                        absl::Time now);

// Whether `pem` holds certificates only, and one of them at least is valid at `now`.
absl::Status CheckAuthorities(std::string_view pem, absl::Time now);

}  // namespace lectern
