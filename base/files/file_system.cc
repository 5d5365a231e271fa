#include "base/files/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

// The status of a failed call on `path`.
absl::Status ErrnoError(const char* what, const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat("cannot ", what, " ", path, ": ", strerror(error));
  return error == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

absl::Status SyncDirectoryOf(FileSystem& files, const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  const std::string directory = parent.empty() ? "." : parent;
  LECTERN_ASSIGN_OR_RETURN(OpenFile file, OpenFile::Open(files, directory, O_RDONLY | O_DIRECTORY));
  return file.Sync();
}

absl::Status WriteAll(FileSystem& files, const std::string& path,
                      std::span<const std::span<const std::byte>> pieces) {
  LECTERN_ASSIGN_OR_RETURN(OpenFile file,
                           OpenFile::Open(files, path, O_WRONLY | O_CREAT | O_TRUNC));
  for (const auto& piece : pieces) LECTERN_RETURN_IF_ERROR(file.Write(piece));
  LECTERN_RETURN_IF_ERROR(file.Sync());
  return file.Close();
}

}  // namespace

int FileSystem::Open(const char* path, int flags, mode_t mode) { return open(path, flags, mode); }
int FileSystem::Close(int fd) { return close(fd); }
ssize_t FileSystem::PRead(int fd, void* data, size_t size, off_t offset) {
  return pread(fd, data, size, offset);
}
ssize_t FileSystem::Write(int fd, const void* data, size_t size) { return write(fd, data, size); }
int FileSystem::FSync(int fd) { return fsync(fd); }
int FileSystem::Rename(const char* from, const char* to) { return rename(from, to); }
int FileSystem::Unlink(const char* path) { return unlink(path); }
int FileSystem::MkDir(const char* path, mode_t mode) { return mkdir(path, mode); }

FileSystem& FileSystem::Real() {
  static FileSystem real;
  return real;
}

absl::StatusOr<OpenFile> OpenFile::Open(FileSystem& files, const std::string& path, int flags) {
  const int fd = files.Open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoError("open", path);
  return OpenFile(files, path, fd);
}

OpenFile::OpenFile(OpenFile&& other) noexcept
    : files_(other.files_), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

OpenFile::~OpenFile() {
  if (fd_ >= 0) files_->Close(fd_);
}

absl::StatusOr<uint64_t> OpenFile::Size() const {
  struct stat info = {};
  if (fstat(fd_, &info) != 0) return ErrnoError("look at", path_);
  return static_cast<uint64_t>(info.st_size);
}

absl::Status OpenFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = files_->Write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = ENOSPC;
    if (written <= 0) return ErrnoError("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status OpenFile::ReadAt(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t read = files_->PRead(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) return ErrnoError("read", path_);
    if (read == 0) return absl::OutOfRangeError(absl::StrCat(path_, " is cut short"));
    bytes = bytes.subspan(static_cast<size_t>(read));
    offset += static_cast<uint64_t>(read);
  }
  return absl::OkStatus();
}

absl::Status OpenFile::Sync() {
  return files_->FSync(fd_) == 0 ? absl::OkStatus() : ErrnoError("sync", path_);
}

absl::Status OpenFile::Close() {
  return files_->Close(std::exchange(fd_, -1)) == 0 ? absl::OkStatus() : ErrnoError("close", path_);
}

absl::Status WriteFileAtomically(FileSystem& files, const std::string& path,
                                 std::span<const std::span<const std::byte>> pieces) {
  const std::string temporary = path + ".tmp";
  absl::Status status = WriteAll(files, temporary, pieces);
  if (status.ok() && files.Rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoError("rename", temporary);
  }
  if (!status.ok()) {
    files.Unlink(temporary.c_str());
    return status;
  }
  return SyncDirectoryOf(files, path);
}

absl::StatusOr<std::vector<DirectoryEntry>> ListFiles(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(directory.c_str()), closedir);
  if (open == nullptr) return ErrnoError("list", directory);
  std::vector<DirectoryEntry> entries;
  while (const dirent* entry = readdir(open.get())) {
    struct stat info = {};
    if (fstatat(dirfd(open.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISREG(info.st_mode)) continue;
    entries.push_back({.name = entry->d_name,
                       .bytes = static_cast<uint64_t>(info.st_size),
                       .modified = absl::TimeFromTimespec(info.st_mtim)});
  }
  return entries;
}

void SetModifiedTime(const std::string& path, absl::Time time) {
  const timespec times[] = {absl::ToTimespec(time), absl::ToTimespec(time)};
  utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

}  // namespace lectern
