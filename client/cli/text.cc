#include "client/cli/text.h"

#include <cstdio>
#include <utility>

#include "base/status_macros.h"

namespace lectern {
namespace {

constexpr size_t kMaxStdinBytes = 256u
                                  << 20;  // protects this process; the server has its own limit

}  // namespace

absl::StatusOr<Text> Text::Read(const std::string& path) {
  Text text;
  if (path != "-") {
    LECTERN_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
    text.file_ = std::make_unique<MappedFile>(std::move(file));
    return text;
  }
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, stdin)) {
    text.bytes_.append(buffer, count);
    if (text.bytes_.size() > kMaxStdinBytes) {
      return absl::InvalidArgumentError("standard input holds more than 256 MiB");
    }
  }
  if (std::ferror(stdin)) return absl::InvalidArgumentError("cannot read standard input");
  return text;
}

}  // namespace lectern
