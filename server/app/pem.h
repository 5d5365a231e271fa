// Checks certificates and keys in PEM before they are used.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lectern {

// Checks that a server can use `chain` (its own certificate first) and `key`: both parse completely
// and belong together, the key needs no password, the first certificate is for servers, all are
// valid at `now`, and each is issued by the next. Returns the earliest expiry.
absl::StatusOr<absl::Time> CheckKeyPair(std::string_view chain, std::string_view key,
                                        absl::Time now);

// Checks that `pem` contains only certificates, at least one of them valid at `now`.
absl::Status CheckAuthorities(std::string_view pem, absl::Time now);

}  // namespace lectern
