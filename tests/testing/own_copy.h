// Statuses that cross threads in tests under ThreadSanitizer.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"

namespace lectern {

// A copy that shares no memory with `status`. Plain copies do, and Debian's Abseil counts them
// where ThreadSanitizer does not look, so that the last of them would seem to be deleted under
// others.
inline absl::Status OwnCopy(const absl::Status& status) {
  absl::Status copy(status.code(), status.message());
  status.ForEachPayload([&copy](absl::string_view url, const absl::Cord& payload) {
    copy.SetPayload(url, absl::Cord(std::string(payload)));
  });
  return copy;
}

}  // namespace lectern
