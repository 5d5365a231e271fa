// The queue of uploads and questions. Bounds their number and their tokens, and refuses a job at
// once if there is no room or no time for it. The next job is a question before an upload (unless
// their priorities say otherwise), then a job of the tenant that has been served least, then the
// oldest.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/engine/api.h"
#include "server/engine/scheduling/fair_queue.h"
#include "server/engine/scheduling/rate_estimate.h"
#include "server/engine/scheduling/task.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

class JobQueue;

// Tokens that are still to be computed.
struct Work {
  uint64_t prefill_tokens = 0;
  uint64_t decode_tokens = 0;
};

// An upload or a question. The worker calls exactly one of Run() and End(), once.
class QueuedJob : public Job, public std::enable_shared_from_this<QueuedJob> {
 public:
  struct Kind {
    bool is_upload = false;
    Priority priority = Priority::kInteractive;
    std::string tenant;
    std::string model;
  };
  QueuedJob(Kind kind, absl::Time deadline, const Clock* clock);

  void Cancel() override;
  // Called when the engine stops: the job ends with UNAVAILABLE (DRAINING) within one model step.
  void Abort() { aborted_ = true; }

  // Returns OK, or once the job should stop: CANCELLED, DEADLINE_EXCEEDED (with `stage`; also if
  // the client left at about the deadline) or UNAVAILABLE.
  absl::Status Check(WorkStage stage) const;

  // The worker has seen the job for the first time: `ahead` jobs run or wait ahead of it, and their
  // work takes `estimated_wait` at the rates learned so far (nullopt while none is known). Called
  // once, before Run(), unless End() comes first.
  virtual void OnWaiting(uint32_t ahead, std::optional<absl::Duration> estimated_wait) = 0;
  // Does all the work and reports to the sink. Resumed by the worker only; the job outlives it.
  virtual Task<Done> Run() = 0;
  // Reports `status` to the sink of a job that never ran or must not go on.
  virtual void End(const absl::Status& status) = 0;

  // A rough count of what is left to do. Set before the job is pushed, reduced by the worker.
  Work work() const { return {prefill_tokens_, decode_tokens_}; }
  void SetWork(const Work& work);
  void Did(uint64_t prefill_tokens, uint64_t decode_tokens);

  const Kind& kind() const { return kind_; }
  // Time since the client left; zero if it has not.
  absl::Duration SinceCancel() const;
  absl::Duration arrival() const { return arrival_; }
  absl::Duration deadline() const { return deadline_; }  // on the steady clock

 protected:
  const Clock* const clock_;

 private:
  friend class JobQueue;
  bool CancelledByDeadline() const;

  const Kind kind_;
  const absl::Duration arrival_;
  const absl::Duration deadline_;
  bool announced_ = false;  // used by the worker alone
  std::atomic<uint64_t> prefill_tokens_{0};
  std::atomic<uint64_t> decode_tokens_{0};
  std::atomic<bool> aborted_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<int64_t> cancel_nanos_{0};
  std::weak_ptr<JobQueue> queue_;  // set once, before others see the job
};

// Thread-safe.
class JobQueue : public std::enable_shared_from_this<JobQueue> {
 public:
  JobQueue(const QueueLimits& limits, const Clock* clock, ServerMetrics* metrics)
      : limits_(limits), clock_(clock), metrics_(metrics) {}

  // Adds a job or refuses it at once: RESOURCE_EXHAUSTED (QUEUE_REQUESTS, QUEUE_TOKENS, QUEUE_WAIT;
  // with RetryInfo) when full, UNAVAILABLE (DRAINING) when closed, DEADLINE_EXCEEDED (DEADLINE,
  // with the estimate) if the jobs before it and the job itself take longer than its deadline
  // allows.
  absl::Status Push(std::shared_ptr<QueuedJob> job) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes those checks of Push() that do not depend on the job, before any work is done for it.
  absl::Status CheckRoom() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns UNAVAILABLE (DRAINING) when closed, and counts it as a refusal.
  absl::Status CheckOpen() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns the next job that may run now, after a call of its OnWaiting(), or null. The job counts
  // as running until Done().
  std::shared_ptr<QueuedJob> TakeNext() ABSL_LOCKS_EXCLUDED(mutex_);
  void Done(const std::shared_ptr<QueuedJob>& job) ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns after a Push() or Wake() since the last call, or after `patience`.
  void WaitForWork(absl::Duration patience) ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake() ABSL_LOCKS_EXCLUDED(mutex_);

  // Charges work to the job's tenant.
  void Charge(const QueuedJob& job, double tokens) ABSL_LOCKS_EXCLUDED(mutex_);
  // The work charged to the job's tenant so far; a smaller counter goes first.
  double CounterOf(const QueuedJob& job) const ABSL_LOCKS_EXCLUDED(mutex_);
  RateEstimate& estimate() { return estimate_; }

  // Ends waiting jobs that should stop and reports to new ones their place. The worker calls it
  // between steps, so that sinks are called on one thread only.
  void Sweep() ABSL_LOCKS_EXCLUDED(mutex_);

  // Refuses every Push() from now on.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // Aborts the running jobs, and takes out and returns the waiting ones.
  std::deque<std::shared_ptr<QueuedJob>> Abort() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WaitUntilIdle(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t running() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t waiting() const ABSL_LOCKS_EXCLUDED(mutex_);
  // True if an interactive job waits for its turn.
  bool InteractiveWaits() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Waiting = std::deque<std::shared_ptr<QueuedJob>>;

  struct ModelLoad {
    uint32_t running = 0;
    uint32_t waiting = 0;
  };

  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Full() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckTokens(const QueuedJob& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckWait(const QueuedJob& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckDeadline(const QueuedJob& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Waiting::iterator Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayRun(const QueuedJob& job) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The work of the running and of the waiting jobs, without those that a job of this priority
  // passes.
  Work RunningWork(Priority priority = Priority::kBulk) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Work WaitingWork(Priority priority = Priority::kBulk) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration EstimatedWait() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How long the work ahead of a waiting job takes; nullopt while no rate is known.
  std::optional<absl::Duration> EstimatedWaitOf(const QueuedJob& job) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_.empty() && running_.empty() && ending_ == 0;
  }
  uint32_t Running() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<uint32_t>(running_.size()) + ending_;
  }

  const QueueLimits limits_;
  const Clock* const clock_;
  ServerMetrics* const metrics_;
  RateEstimate estimate_;
  mutable Mutex mutex_;
  Waiting waiting_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, ModelLoad> model_loads_ ABSL_GUARDED_BY(mutex_);  // as last published
  std::vector<std::shared_ptr<QueuedJob>> running_ ABSL_GUARDED_BY(mutex_);
  uint32_t running_uploads_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t ending_ ABSL_GUARDED_BY(mutex_) = 0;  // taken out by Sweep(); sinks not yet called
  FairQueue shares_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

// Returns UNAVAILABLE with the reason DRAINING.
absl::Status DrainingError();

}  // namespace lectern
