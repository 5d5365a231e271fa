#include "server/model/fingerprint.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/files/mapped_file.h"
#include "base/status_macros.h"

namespace lectern {

absl::Status HashFile(const std::string& path, Sha256& hash) {
  constexpr size_t kMiB = size_t{1} << 20;
  constexpr size_t kWhole = 256 * kMiB;
  constexpr size_t kHead = 16 * kMiB;
  constexpr size_t kStride = 64 * kMiB;
  LECTERN_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const std::string_view bytes(file.bytes().data(), file.bytes().size());
  hash.Update(absl::StrCat(bytes.size(), ":"));
  const bool whole = bytes.size() <= kWhole;
  for (size_t offset = 0; offset < bytes.size();) {
    hash.Update(bytes.substr(offset, kMiB));
    file.DontNeed(offset, std::min(kMiB, bytes.size() - offset));
    offset += whole || offset + kMiB < kHead ? kMiB : kStride;
  }
  return absl::OkStatus();
}

}  // namespace lectern
