// The system calls that write and read files, as an interface, so that tests can make them fail;
// and atomic writing of files.
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

// The methods behave like the system calls of the same name: they return -1 and set errno on
// failure, and Write() and PRead() may move fewer bytes than requested. Thread-safe.
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

  // The machine's file system; lives until the program ends.
  static FileSystem& Real();
};

// A file descriptor that is closed with its owner. Move-only.
class OpenFile {
 public:
  // Opens close-on-exec, never through a symbolic link; creates with mode 0600 if the flags include
  // O_CREAT. Errors name the path: NOT_FOUND for ENOENT, else UNAVAILABLE.
  static absl::StatusOr<OpenFile> Open(FileSystem& files, const std::string& path, int flags);

  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile();

  int fd() const { return fd_; }
  absl::StatusOr<uint64_t> Size() const;
  absl::Status Write(std::span<const std::byte> bytes);
  // Reads all of `bytes`; OUT_OF_RANGE if the file ends before.
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> bytes) const;
  absl::Status Sync();
  // Closes the file and returns whether that succeeded.
  absl::Status Close();

 private:
  OpenFile(FileSystem& files, std::string path, int fd)
      : files_(&files), path_(std::move(path)), fd_(fd) {}

  FileSystem* files_;
  std::string path_;
  int fd_;
};

// Writes `pieces` in order to `path`, which then holds all of them, or its previous contents, even
// after a crash: writes `path`.tmp, syncs and renames it, and syncs the directory. After a failure
// `path`.tmp is removed if possible.
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

// Records the last use of a file; errors are ignored.
void SetModifiedTime(const std::string& path, absl::Time time);

inline std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace lectern
