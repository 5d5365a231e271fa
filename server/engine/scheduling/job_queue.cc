#include "server/engine/scheduling/job_queue.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "protocol/reasons.h"
#include "server/engine/fault_points.h"

namespace lectern {
namespace {

constexpr absl::Duration kLeastRetry = absl::Milliseconds(100);
constexpr absl::Duration kMostRetry = absl::Seconds(30);
// Bulk jobs may wait for this share of QueueLimits::wait, because the interactive jobs of a burst
// run before them.
constexpr int kBulkWaitShare = 4;

const char* StageName(WorkStage stage) {
  switch (stage) {
    case WorkStage::kQueue:
      return "queue";
    case WorkStage::kIngest:
      return "ingest";
    case WorkStage::kPrefill:
      return "prefill";
    case WorkStage::kDecode:
      return "decode";
  }
  return "";
}

// The work of the jobs that a job of this priority does not pass.
template <typename Jobs>
Work Sum(const Jobs& jobs, Priority priority) {
  Work sum;
  for (const std::shared_ptr<QueuedJob>& job : jobs) {
    if (job->kind().priority > priority) continue;
    sum.prefill_tokens += job->work().prefill_tokens;
    sum.decode_tokens += job->work().decode_tokens;
  }
  return sum;
}

}  // namespace

absl::Status DrainingError() {
  return MakeError(absl::StatusCode::kUnavailable, "the server is shutting down",
                   {.reason = kReasonDraining, .retry_after = absl::Seconds(1)});
}

QueuedJob::QueuedJob(Kind kind, absl::Time deadline, const Clock* clock)
    : clock_(clock),
      kind_(std::move(kind)),
      arrival_(clock->Steady()),
      deadline_(deadline == absl::InfiniteFuture() ? absl::InfiniteDuration()
                                                   : arrival_ + (deadline - clock->Now())) {}

void QueuedJob::Cancel() {
  // Store the time first, so that a thread that sees the flag finds it.
  int64_t never = 0;
  if (!cancel_nanos_.compare_exchange_strong(never, absl::ToInt64Nanoseconds(clock_->Steady()))) {
    return;
  }
  DelayPoint(Fault::kCancelled);
  cancelled_ = true;
  if (const auto queue = queue_.lock()) queue->Wake();
}

absl::Duration QueuedJob::SinceCancel() const {
  const int64_t at = cancel_nanos_;
  return at == 0 ? absl::ZeroDuration() : clock_->Steady() - absl::Nanoseconds(at);
}

// A client whose deadline passes cancels the call, mostly before the deadline by the server's
// clock: the call took a while to arrive, and gRPC rounds its timeout up by as much as a hundredth.
bool QueuedJob::CancelledByDeadline() const {
  if (deadline_ == absl::InfiniteDuration()) return false;
  const absl::Duration whole = deadline_ - arrival_;
  const absl::Duration early = std::min(whole / 4, absl::Milliseconds(20) + whole / 100);
  return absl::Nanoseconds(cancel_nanos_.load()) >= deadline_ - early;
}

absl::Status QueuedJob::Check(WorkStage stage) const {
  const bool cancelled = cancelled_;
  if (cancelled && !CancelledByDeadline()) return absl::CancelledError("cancelled by the client");
  if (aborted_) return DrainingError();
  if (cancelled || clock_->Steady() >= deadline_) {
    return MakeError(absl::StatusCode::kDeadlineExceeded,
                     absl::StrCat("the deadline passed (", StageName(stage), ")"),
                     {.reason = "DEADLINE", .metadata = {{"stage", StageName(stage)}}});
  }
  return absl::OkStatus();
}

void QueuedJob::SetWork(const Work& work) {
  prefill_tokens_ = work.prefill_tokens;
  decode_tokens_ = work.decode_tokens;
}

void QueuedJob::Did(uint64_t prefill_tokens, uint64_t decode_tokens) {
  // Only the worker subtracts. The first figure is a guess, so the result may be below zero.
  prefill_tokens_ = prefill_tokens_ - std::min(prefill_tokens_.load(), prefill_tokens);
  decode_tokens_ = decode_tokens_ - std::min(decode_tokens_.load(), decode_tokens);
}

uint32_t JobQueue::running() const {
  MutexLock lock(&mutex_);
  return Running();
}
uint32_t JobQueue::waiting() const {
  MutexLock lock(&mutex_);
  return static_cast<uint32_t>(waiting_.size());
}

bool JobQueue::InteractiveWaits() const {
  MutexLock lock(&mutex_);
  return std::any_of(waiting_.begin(), waiting_.end(), [](const auto& job) {
    return job->kind().priority == Priority::kInteractive;
  });
}

absl::Status JobQueue::CheckOpen() const {
  MutexLock lock(&mutex_);
  if (!closed_) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kDraining);
  return DrainingError();
}

absl::Status JobQueue::CheckRoom() const {
  LECTERN_RETURN_IF_ERROR(CheckOpen());
  MutexLock lock(&mutex_);
  return Full();
}

Work JobQueue::RunningWork(Priority priority) const { return Sum(running_, priority); }
Work JobQueue::WaitingWork(Priority priority) const { return Sum(waiting_, priority); }

absl::Duration JobQueue::EstimatedWait() const {
  const Work running = RunningWork(), waiting = WaitingWork();
  return estimate_.Of(running.prefill_tokens + waiting.prefill_tokens,
                      running.decode_tokens + waiting.decode_tokens);
}

// Jobs of its priority that came before it, and all that run or wait and that it does not pass.
std::optional<absl::Duration> JobQueue::EstimatedWaitOf(const QueuedJob& job) const {
  const Priority priority = job.kind().priority;
  Work ahead = RunningWork(priority);
  bool before = true;
  for (const std::shared_ptr<QueuedJob>& other : waiting_) {
    before = before && other.get() != &job;
    const bool goes_first =
        other->kind().priority < priority || (before && other->kind().priority == priority);
    if (!goes_first) continue;
    ahead.prefill_tokens += other->work().prefill_tokens;
    ahead.decode_tokens += other->work().decode_tokens;
  }
  if (ahead.prefill_tokens + ahead.decode_tokens == 0) return absl::ZeroDuration();
  const absl::Duration wait = estimate_.Of(ahead.prefill_tokens, ahead.decode_tokens);
  if (wait == absl::ZeroDuration()) return std::nullopt;
  return wait;
}

void JobQueue::Publish() {
  metrics_->SetLoad(Running(), static_cast<uint32_t>(waiting_.size()));
  metrics_->SetPrefillTokens(WaitingWork().prefill_tokens, RunningWork().prefill_tokens);
  metrics_->SetEstimatedWait(EstimatedWait());
  for (auto& [model, load] : model_loads_) load = {};
  for (const auto& job : running_) ++model_loads_[job->kind().model].running;
  for (const auto& job : waiting_) ++model_loads_[job->kind().model].waiting;
  for (const auto& [model, load] : model_loads_) {
    metrics_->SetModelLoad(model, load.running, load.waiting);
  }
}

// The estimated time until a place in the queue is free.
absl::Status JobQueue::Full() const {
  if (waiting_.size() < limits_.waiting) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kQueueRequests);
  const absl::Duration one_place = EstimatedWait() / static_cast<int64_t>(waiting_.size() + 1);
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the queue is full (", limits_.waiting, " requests wait)"),
                   {.reason = "QUEUE_REQUESTS",
                    .metadata = {{"limit", absl::StrCat(limits_.waiting)}},
                    .retry_after = std::clamp(one_place, kLeastRetry, kMostRetry)});
}

// A single job may have more tokens than the limit, which bounds the queue and not a document.
absl::Status JobQueue::CheckTokens(const QueuedJob& job) const {
  const uint64_t waiting = WaitingWork().prefill_tokens;
  const uint64_t tokens = job.work().prefill_tokens;
  if (waiting == 0 || waiting + tokens <= limits_.waiting_tokens) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kQueueTokens);
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the queue is full (", waiting, " tokens wait to be read, ",
                                limits_.waiting_tokens, " may)"),
                   {.reason = "QUEUE_TOKENS",
                    .metadata = {{"limit", absl::StrCat(limits_.waiting_tokens)},
                                 {"waiting", absl::StrCat(waiting)},
                                 {"tokens", absl::StrCat(tokens)}},
                    .retry_after = std::clamp(estimate_.Of(tokens, 0), kLeastRetry, kMostRetry)});
}

// Bounds the estimated time of the waiting jobs, so that the queue drains soon after a burst. Each
// priority has its own bound, or bulk jobs would be refused whenever many others arrive.
absl::Status JobQueue::CheckWait(const QueuedJob& job) const {
  if (limits_.wait == absl::ZeroDuration()) return absl::OkStatus();
  absl::Duration limit = limits_.wait;
  Work waiting = WaitingWork(job.kind().priority);
  if (job.kind().priority == Priority::kBulk) {
    limit /= kBulkWaitShare;
    const Work others = WaitingWork(Priority::kInteractive);
    waiting.prefill_tokens -= others.prefill_tokens;
    waiting.decode_tokens -= others.decode_tokens;
  }
  const absl::Duration wait = estimate_.Of(waiting.prefill_tokens, waiting.decode_tokens);
  if (wait <= limit) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kQueueWait);
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("the queue is full (what waits takes about ", absl::FormatDuration(wait), ", ",
                   absl::FormatDuration(limit), " may)"),
      {.reason = "QUEUE_WAIT",
       .metadata = {{"limit_ms", absl::StrCat(absl::ToInt64Milliseconds(limit))},
                    {"wait_ms", absl::StrCat(absl::ToInt64Milliseconds(wait))}},
       .retry_after = std::clamp(wait - limit, kLeastRetry, kMostRetry)});
}

absl::Status JobQueue::CheckDeadline(const QueuedJob& job) const {
  if (job.deadline() == absl::InfiniteDuration()) return absl::OkStatus();
  const Work running = RunningWork(job.kind().priority);
  const Work waiting = WaitingWork(job.kind().priority);
  const Work own = job.work();
  const absl::Duration estimate =
      estimate_.Of(running.prefill_tokens + waiting.prefill_tokens + own.prefill_tokens,
                   running.decode_tokens + waiting.decode_tokens + own.decode_tokens);
  const absl::Duration left = job.deadline() - clock_->Steady();
  if (estimate <= left) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kDeadline);
  return MakeError(absl::StatusCode::kDeadlineExceeded,
                   absl::StrCat("would take about ", absl::FormatDuration(estimate), " (",
                                absl::FormatDuration(left), " are left until the deadline)"),
                   {.reason = "DEADLINE",
                    .metadata = {{"stage", "admission"},
                                 {"estimate_ms", absl::StrCat(absl::ToInt64Milliseconds(estimate))},
                                 {"left_ms", absl::StrCat(absl::ToInt64Milliseconds(left))}}});
}

absl::Status JobQueue::Push(std::shared_ptr<QueuedJob> job) {
  job->queue_ = weak_from_this();
  MutexLock lock(&mutex_);
  if (closed_) {
    metrics_->Rejected(AdmissionReason::kDraining);
    return DrainingError();
  }
  LECTERN_RETURN_IF_ERROR(Full());
  LECTERN_RETURN_IF_ERROR(CheckTokens(*job));
  LECTERN_RETURN_IF_ERROR(CheckWait(*job));
  LECTERN_RETURN_IF_ERROR(CheckDeadline(*job));
  shares_.Arrive(job->kind().tenant);
  waiting_.push_back(std::move(job));
  woken_ = true;
  metrics_->Admitted();
  Publish();
  return absl::OkStatus();
}

bool JobQueue::MayRun(const QueuedJob& job) const {
  if (job.kind().is_upload) return running_uploads_ < limits_.running_uploads;
  return running_.size() - running_uploads_ < limits_.running_questions;
}

JobQueue::Waiting::iterator JobQueue::Next() {
  auto best = waiting_.end();
  for (auto job = waiting_.begin(); job != waiting_.end(); ++job) {
    if (!MayRun(**job)) continue;
    if (best == waiting_.end()) {
      best = job;
      continue;
    }
    const auto rank = [this](const QueuedJob& j) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return std::make_pair(j.kind().priority, shares_.CounterOf(j.kind().tenant));
    };
    if (rank(**job) < rank(**best)) best = job;
  }
  return best;
}

std::shared_ptr<QueuedJob> JobQueue::TakeNext() {
  std::shared_ptr<QueuedJob> job;
  {
    MutexLock lock(&mutex_);
    const auto next = Next();
    if (next == waiting_.end()) return nullptr;
    job = std::move(*next);
    waiting_.erase(next);
    running_.push_back(job);
    running_uploads_ += job->kind().is_upload ? 1 : 0;
    Publish();
  }
  if (!std::exchange(job->announced_, true)) job->OnWaiting(0, absl::ZeroDuration());
  return job;
}

void JobQueue::Done(const std::shared_ptr<QueuedJob>& job) {
  MutexLock lock(&mutex_);
  std::erase(running_, job);
  running_uploads_ -= job->kind().is_upload ? 1 : 0;
  shares_.Leave(job->kind().tenant);
  Publish();
}

void JobQueue::WaitForWork(absl::Duration patience) {
  MutexLock lock(&mutex_);
  mutex_.AwaitUntil(absl::Now() + patience,
                    [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return woken_; });
  woken_ = false;
}

void JobQueue::Charge(const QueuedJob& job, double tokens) {
  MutexLock lock(&mutex_);
  shares_.Charge(job.kind().tenant, tokens);
}

double JobQueue::CounterOf(const QueuedJob& job) const {
  MutexLock lock(&mutex_);
  return shares_.CounterOf(job.kind().tenant);
}

void JobQueue::Sweep() {
  std::vector<std::pair<std::shared_ptr<QueuedJob>, absl::Status>> ended;
  struct Arrived {
    std::shared_ptr<QueuedJob> job;
    uint32_t ahead;
    std::optional<absl::Duration> wait;
  };
  std::vector<Arrived> arrived;
  {
    MutexLock lock(&mutex_);
    std::erase_if(waiting_, [&](const std::shared_ptr<QueuedJob>& job) {
      absl::Status status = job->Check(WorkStage::kQueue);
      if (status.ok()) return false;
      ended.emplace_back(job, std::move(status));
      return true;
    });
    // They count as running until their sinks have been called, so that a drain waits for that.
    uint32_t ahead = Running();
    for (const auto& job : waiting_) {
      if (!std::exchange(job->announced_, true)) {
        arrived.push_back({job, ahead, EstimatedWaitOf(*job)});
      }
      ++ahead;
    }
    ending_ += static_cast<uint32_t>(ended.size());
    Publish();
  }
  for (const auto& [job, ahead, wait] : arrived) job->OnWaiting(ahead, wait);
  for (const auto& [job, status] : ended) {
    DelayPoint(Fault::kEnding);
    job->End(status);
    MutexLock lock(&mutex_);
    --ending_;
    shares_.Leave(job->kind().tenant);
    Publish();
  }
}

void JobQueue::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
}

void JobQueue::Close() {
  MutexLock lock(&mutex_);
  closed_ = true;
}

std::deque<std::shared_ptr<QueuedJob>> JobQueue::Abort() {
  MutexLock lock(&mutex_);
  for (const auto& job : running_) job->Abort();
  auto all = std::exchange(waiting_, {});
  for (const auto& job : all) shares_.Leave(job->kind().tenant);
  Publish();
  return all;
}

bool JobQueue::WaitUntilIdle(absl::Time deadline) {
  MutexLock lock(&mutex_);
  return mutex_.AwaitUntil(deadline, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return Idle(); });
}

}  // namespace lectern
