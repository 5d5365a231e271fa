// The engine's one queue: uploads and questions in order of arrival, bounded, with prompt ends for
// those that are cancelled or whose deadline passes while they wait.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/engine/engine.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

class JobQueue;

// An upload or a question. The worker calls Run() or End(), one of them, once.
class QueuedJob : public Job, public std::enable_shared_from_this<QueuedJob> {
 public:
  QueuedJob(absl::Time deadline, const Clock* clock);

  void Cancel() override;
  // The engine stops: the job ends with UNAVAILABLE (DRAINING) within one model step.
  void Abort() { aborted_ = true; }

  // CANCELLED, DEADLINE_EXCEEDED (with `stage`) or UNAVAILABLE once the job should stop.
  absl::Status Check(WorkStage stage) const;

  // The worker has first seen it: `ahead` jobs run or wait before it. Called once, before all else
  // unless End() comes first.
  virtual void OnWaiting(uint32_t ahead) = 0;
  virtual void Run() = 0;
  // Reports `status` to the sink: the job never ran, or must not go on.
  virtual void End(const absl::Status& status) = 0;
  // Tokens it will have to read, roughly; for the load metrics.
  virtual uint64_t PrefillTokens() const = 0;

  // How long ago the client left; zero if it has not.
  absl::Duration SinceCancel() const;
  absl::Duration arrival() const { return arrival_; }

 protected:
  const Clock* const clock_;

 private:
  friend class JobQueue;
  const absl::Duration arrival_;
  const absl::Duration deadline_;  // on the steady clock
  bool announced_ = false;         // used by the worker alone
  std::atomic<bool> aborted_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<int64_t> cancel_nanos_{0};
  std::weak_ptr<JobQueue> queue_;  // set once, before others see the job
};

// Thread-safe.
class JobQueue : public std::enable_shared_from_this<JobQueue> {
 public:
  JobQueue(uint32_t capacity, const Clock* clock, ServerMetrics* metrics)
      : capacity_(capacity), clock_(clock), metrics_(metrics) {}

  // RESOURCE_EXHAUSTED (QUEUE_REQUESTS, with RetryInfo) when full, UNAVAILABLE (DRAINING) when
  // closed.
  absl::Status Push(std::shared_ptr<QueuedJob> job) ABSL_LOCKS_EXCLUDED(mutex_);

  // The next job, told that it waits, or null after `patience` or a wake-up. It counts as running
  // until Done().
  std::shared_ptr<QueuedJob> Pop(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);
  void Done() ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends waiting jobs that should stop and tells new ones their place. The worker calls it between
  // steps, so that sinks hear from one thread only.
  void Sweep() ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake() ABSL_LOCKS_EXCLUDED(mutex_);

  // No Push() from now on.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes out everything that waits.
  std::deque<std::shared_ptr<QueuedJob>> TakeAll() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitUntilIdle(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t running() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t waiting() const ABSL_LOCKS_EXCLUDED(mutex_);
  // UNAVAILABLE (DRAINING) when closed; counts as a refusal.
  absl::Status CheckOpen() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_.empty() && running_ == 0;
  }
  bool WorkOrWake() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !waiting_.empty() || woken_;
  }

  const uint32_t capacity_;
  const Clock* const clock_;
  ServerMetrics* const metrics_;
  mutable Mutex mutex_;
  std::deque<std::shared_ptr<QueuedJob>> waiting_ ABSL_GUARDED_BY(mutex_);
  uint32_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t running_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

// UNAVAILABLE, reason DRAINING.
absl::Status DrainingError();

}  // namespace lectern
