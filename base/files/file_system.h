// The system calls that write and read files, as an interface, so that tests can make them fail;
// and files that are there whole or not at all.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lectern {

// The methods do what the calls of that name do: -1 and errno when they fail, and Write() and
// PRead() may move fewer bytes than asked for. Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int Open(const char* path, int flags, mode_t mode);
  virtual int Close(int fd);
  virtual ssize_t PRead(int fd, void* data, size_t size, off_t offset);
  virtual ssize_t Write(int fd, const void* data, size_t size);
  virtual int FSync(int fd);
  virtual int Rename(const char* from, const char* to);
  virtual int Unlink(const char* path);
  virtual int MkDir(const char* path, mode_t mode);

  // The machine's; lives for ever.
  static FileSystem& Real();
};

// A file descriptor that is closed with its owner. Move-only.
class OpenFile {
 public:
  // Close-on-exec, never through a symbolic link; made with mode 0600 if the flags say so. Errors
  // name the path: NOT_FOUND for ENOENT, else UNAVAILABLE.
  static absl::StatusOr<OpenFile> Open(FileSystem& files, const std::string& path, int flags);

  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile();

  int fd() const { return fd_; }
  absl::StatusOr<uint64_t> Size() const;
  absl::Status Write(std::span<const std::byte> bytes);
  // All of `bytes`, or OUT_OF_RANGE if the file ends before.
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> bytes) const;
  absl::Status Sync();
  // Closes, and says whether that went well.
  absl::Status Close();

 private:
  OpenFile(FileSystem& files, std::string path, int fd)
      : files_(&files), path_(std::move(path)), fd_(fd) {}

  FileSystem* files_;
  std::string path_;
  int fd_;
};

// Writes `pieces` one behind the other into `path`, which then holds all of them or what it held
// before, also after a crash: into `path`.tmp, synced, renamed, the directory synced. Whatever
// fails, `path`.tmp is removed if that is possible.
absl::Status WriteFileAtomically(FileSystem& files, const std::string& path,
                                 std::span<const std::span<const std::byte>> pieces);

// A regular file of a directory.
struct DirectoryEntry {
  std::string name;
  uint64_t bytes = 0;
  absl::Time modified;
};

// The regular files of a directory, in no order. NOT_FOUND or UNAVAILABLE.
absl::StatusOr<std::vector<DirectoryEntry>> ListFiles(const std::string& directory);

// Advice to those who order files by their last use; errors do not matter.
void SetModifiedTime(const std::string& path, absl::Time time);

inline std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace lectern
