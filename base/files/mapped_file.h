// A file mapped read-only into memory.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lectern {

// Owns the mapping; movable. The bytes are const and may be read from any thread. The file must not
// be shortened while mapped (replace model files by rename, never in place).
class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT (not a regular file), naming the path.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::string_view bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // Advises the kernel that [offset, offset + length) will not be read again soon, so that loading
  // a large file does not hold all of its pages. Those around it that were mapped with them are
  // given back, too; whoever reads them gets them again from the page cache.
  void DontNeed(size_t offset, size_t length) const;

 private:
  MappedFile(std::string path, const char* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace lectern
