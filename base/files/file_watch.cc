#include "base/files/file_watch.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

using Contents = absl::StatusOr<std::vector<std::string>>;

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a readable file"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is larger than 1 MiB"));
  }
  return text;
}

Contents ReadAll(const std::vector<std::string>& paths) {
  std::vector<std::string> contents;
  for (const std::string& path : paths) {
    LECTERN_ASSIGN_OR_RETURN(contents.emplace_back(), ReadSmallFile(path));
  }
  return contents;
}

// The digest of the contents or of the error: keys stay in memory no longer than needed.
std::string DigestOf(const Contents& contents) {
  if (!contents.ok()) return Sha256Hex(contents.status().ToString());
  Sha256 hash;
  for (const std::string& text : *contents) {
    hash.Update(absl::StrCat(text.size(), ":"));
    hash.Update(text);
  }
  return hash.HexDigest();
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileWatch>> FileWatch::Start(Options options) {
  std::unique_ptr<FileWatch> watch(new FileWatch(std::move(options)));
  const Contents contents = ReadAll(watch->options_.paths);
  LECTERN_RETURN_IF_ERROR(watch->Attempt(contents));
  watch->loaded_ = watch->seen_ = DigestOf(contents);
  watch->thread_ = std::thread([raw = watch.get()] {
    while (!raw->StoppedWhileWaiting()) raw->Poll(Clock::Real().Steady());
  });
  return watch;
}

FileWatch::~FileWatch() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

bool FileWatch::StoppedWhileWaiting() {
  MutexLock lock(&mutex_);
  return mutex_.AwaitUntil(absl::Now() + options_.poll,
                           [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stop_; });
}

void FileWatch::Poll(absl::Duration now) {
  const Contents contents = ReadAll(options_.paths);
  const std::string digest = DigestOf(contents);
  const bool settled = digest == seen_;
  seen_ = digest;
  if (digest == loaded_) {
    refused_.clear();
    return;
  }
  if (!settled || (digest == refused_ && now < retry_at_)) return;
  const absl::Status status = Attempt(contents);
  if (status.ok()) loaded_ = digest;
  refused_ = status.ok() ? "" : digest;
  retry_at_ = now + options_.retry;
  if (options_.reloaded) options_.reloaded(status);
}

absl::Status FileWatch::Attempt(const Contents& contents) const {
  return contents.ok() ? options_.load(*contents) : contents.status();
}

}  // namespace lectern
