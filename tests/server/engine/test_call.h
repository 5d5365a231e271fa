// A call as the RPC layer makes it, for tests of the engine.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "server/engine/engine.h"
#include "tests/testing/own_copy.h"

namespace lectern {

// Longer than anything in a test should take.
inline constexpr absl::Duration kMostPatience = absl::Minutes(1);

// Records how often a call received its end, and how it ended.
class Ending {
 public:
  void Tell(const absl::Status& status) {
    MutexLock lock(&mutex_);
    ++times_;
    status_ = OwnCopy(status);
  }
  // False if it received none.
  bool Wait() {
    MutexLock lock(&mutex_);
    return mutex_.AwaitUntil(absl::Now() + kMostPatience, [this] { return times_ > 0; });
  }
  int times() {
    MutexLock lock(&mutex_);
    return times_;
  }
  absl::Status status() {
    MutexLock lock(&mutex_);
    return OwnCopy(status_);
  }

 private:
  Mutex mutex_;
  int times_ = 0;
  absl::Status status_;
};

// A call as server/rpc makes it (upload_call.cc, ask_call.cc): the job's sink and its owner.
class Call : public AskSink, public UploadSink, public std::enable_shared_from_this<Call> {
 public:
  Call(std::atomic<int>* open, std::shared_ptr<Ending> ending)
      : open_(open), ending_(std::move(ending)) {
    ++*open_;
  }
  ~Call() override { --*open_; }

  void Ask(Engine& engine, const AskOptions& options) {
    Begin(engine.Ask(options, shared_from_this()));
  }
  void Upload(Engine& engine, const UploadOptions& options, const std::string& text) {
    auto upload = engine.StartUpload(options);
    if (!upload.ok()) return End(upload.status());
    const size_t half = text.size() / 2;
    for (const std::string& piece : {text.substr(0, half), text.substr(half)}) {
      if (const absl::Status status = (*upload)->Append(piece); !status.ok()) return End(status);
      if (cancelled()) return End(absl::CancelledError("the stream broke off"));
    }
    Begin((*upload)->Finish(shared_from_this()));
  }
  void Cancel() {
    MutexLock lock(&mutex_);
    cancelled_ = true;
    if (job_ != nullptr) job_->Cancel();
  }

  void OnQueued(uint32_t, std::optional<absl::Duration>) override {}
  void OnProgress(AskStage, uint64_t, uint64_t) override {}
  void OnProgress(UploadStage, uint64_t, uint64_t) override {}
  void OnText(std::string_view, uint32_t) override {}
  void OnAnswer(const Answer&) override { End(absl::OkStatus()); }
  void OnDocument(const DocumentInfo&) override { End(absl::OkStatus()); }
  void OnError(const absl::Status& status) override { End(status); }

 private:
  void End(const absl::Status& status) { ending_->Tell(status); }
  void Begin(absl::StatusOr<std::shared_ptr<Job>> job) {
    if (!job.ok()) return End(job.status());
    MutexLock lock(&mutex_);
    job_ = *std::move(job);
    if (cancelled_) job_->Cancel();
  }
  bool cancelled() {
    MutexLock lock(&mutex_);
    return cancelled_;
  }

  std::atomic<int>* const open_;
  const std::shared_ptr<Ending> ending_;
  Mutex mutex_;
  bool cancelled_ = false;
  std::shared_ptr<Job> job_;
};

}  // namespace lectern
