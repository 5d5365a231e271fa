// Small files that are replaced while the process runs: certificates, tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace lectern {

// Polls files, and loads all of them when one has changed and none has changed since the previous
// poll, so that files that are written one after the other are loaded together. If a file cannot be
// read or is refused, the last good contents stay loaded; loading is tried again when a file
// changes and at intervals.
class FileWatch {
 public:
  // The contents in the order of the paths. Called by Start() and from the thread of the watch.
  using Load = std::function<absl::Status(const std::vector<std::string>& contents)>;
  struct Options {
    std::vector<std::string> paths;  // regular files of at most 1 MiB each, or links to them
    Load load;
    // Called after each attempt but the first, with its outcome.
    std::function<void(const absl::Status&)> reloaded;
    absl::Duration poll = absl::Milliseconds(500);
    absl::Duration retry = absl::Minutes(1);
  };

  // Loads the files once; errors name the file, or are those of `load`.
  static absl::StatusOr<std::unique_ptr<FileWatch>> Start(Options options);
  ~FileWatch();

 private:
  explicit FileWatch(Options options) : options_(std::move(options)) {}
  bool StoppedWhileWaiting() ABSL_LOCKS_EXCLUDED(mutex_);
  void Poll(absl::Duration now);
  absl::Status Attempt(const absl::StatusOr<std::vector<std::string>>& contents) const;

  const Options options_;
  // Digests of the loaded contents, of the last poll's, and of the refused ones. Used only by the
  // watch's thread once it runs.
  std::string loaded_;
  std::string seen_;
  std::string refused_;
  absl::Duration retry_at_;
  Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lectern
