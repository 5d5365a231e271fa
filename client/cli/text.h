// The input text of a command: a file or standard input.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/files/mapped_file.h"

namespace lectern {

// Move-only; bytes() live as long as the object.
class Text {
 public:
  Text() = default;

  // Maps the file `path`; "-" reads standard input to its end, at most 256 MiB.
  static absl::StatusOr<Text> Read(const std::string& path);

  std::string_view bytes() const { return file_ != nullptr ? file_->bytes() : bytes_; }

 private:
  std::unique_ptr<MappedFile> file_;
  std::string bytes_;
};

}  // namespace lectern
