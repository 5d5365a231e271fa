// The machine's file system with injected faults. Thread-safe.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>

#include "base/files/file_system.h"

namespace lectern {

class FaultyFileSystem : public FileSystem {
 public:
  // After `calls` more calls that change files, every such call fails and changes nothing, as if
  // the process had died.
  void CrashAfter(int calls) { calls_left_ = calls; }
  bool crashed() const { return crashed_; }
  // Write() and PRead() move at most that many bytes.
  void SetMostBytesPerCall(size_t bytes) { most_bytes_ = bytes; }
  // That many bytes may be written, then the disk is full.
  void SetRoom(uint64_t bytes) { room_ = bytes; }
  void FailReads(bool fail) { fail_reads_ = fail; }
  void FailSyncs(bool fail) { fail_syncs_ = fail; }

  int Open(const char* path, int flags, mode_t mode) override {
    const bool changes = (flags & (O_CREAT | O_TRUNC)) != 0;
    if (changes && Dead()) return Fail(EIO);
    return FileSystem::Open(path, flags, mode);
  }
  ssize_t PRead(int fd, void* data, size_t size, off_t offset) override {
    if (fail_reads_) return Fail(EIO);
    return FileSystem::PRead(fd, data, std::min<size_t>(size, most_bytes_), offset);
  }
  ssize_t Write(int fd, const void* data, size_t size) override {
    if (Dead()) return Fail(EIO);
    size = std::min<size_t>(size, most_bytes_);
    if (room_ == 0) return Fail(ENOSPC);
    size = std::min<size_t>(size, room_);
    if (room_ != UINT64_MAX) room_ -= size;
    return FileSystem::Write(fd, data, size);
  }
  int FSync(int fd) override {
    if (Dead() || fail_syncs_) return Fail(EIO);
    return FileSystem::FSync(fd);
  }
  int Rename(const char* from, const char* to) override {
    return Dead() ? Fail(EIO) : FileSystem::Rename(from, to);
  }
  int Unlink(const char* path) override { return Dead() ? Fail(EIO) : FileSystem::Unlink(path); }
  int MkDir(const char* path, mode_t mode) override {
    return Dead() ? Fail(EIO) : FileSystem::MkDir(path, mode);
  }

 private:
  static int Fail(int error) {
    errno = error;
    return -1;
  }
  bool Dead() {
    if (calls_left_ > 0) {
      --calls_left_;
      return false;
    }
    if (calls_left_ == 0) crashed_ = true;
    return crashed_;
  }

  std::atomic<int> calls_left_{-1};  // -1: never
  std::atomic<bool> crashed_{false};
  std::atomic<size_t> most_bytes_{SIZE_MAX};
  std::atomic<uint64_t> room_{UINT64_MAX};
  std::atomic<bool> fail_reads_{false};
  std::atomic<bool> fail_syncs_{false};
};

}  // namespace lectern
