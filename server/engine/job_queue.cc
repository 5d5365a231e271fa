#include "server/engine/job_queue.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/error_details.h"

namespace lectern {
namespace {

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

}  // namespace

absl::Status DrainingError() {
  return MakeError(absl::StatusCode::kUnavailable, "the server is shutting down",
                   {.reason = "DRAINING", .retry_after = absl::Seconds(1)});
}

QueuedJob::QueuedJob(absl::Time deadline, const Clock* clock)
    : clock_(clock),
      arrival_(clock->Steady()),
      deadline_(deadline == absl::InfiniteFuture() ? absl::InfiniteDuration()
                                                   : arrival_ + (deadline - clock->Now())) {}

void QueuedJob::Cancel() {
  // The time first, so that whoever sees the flag finds it.
  int64_t never = 0;
  if (!cancel_nanos_.compare_exchange_strong(never, absl::ToInt64Nanoseconds(clock_->Steady()))) {
    return;
  }
  cancelled_ = true;
  if (const auto queue = queue_.lock()) queue->Wake();
}

absl::Duration QueuedJob::SinceCancel() const {
  const int64_t at = cancel_nanos_;
  return at == 0 ? absl::ZeroDuration() : clock_->Steady() - absl::Nanoseconds(at);
}

absl::Status QueuedJob::Check(WorkStage stage) const {
  if (cancelled_) return absl::CancelledError("cancelled by the client");
  if (aborted_) return DrainingError();
  if (clock_->Steady() >= deadline_) {
    return MakeError(absl::StatusCode::kDeadlineExceeded,
                     absl::StrCat("the deadline passed (", StageName(stage), ")"),
                     {.reason = "DEADLINE", .metadata = {{"stage", StageName(stage)}}});
  }
  return absl::OkStatus();
}

uint32_t JobQueue::running() const {
  MutexLock lock(&mutex_);
  return running_;
}
uint32_t JobQueue::waiting() const {
  MutexLock lock(&mutex_);
  return static_cast<uint32_t>(waiting_.size());
}

absl::Status JobQueue::CheckOpen() const {
  MutexLock lock(&mutex_);
  if (!closed_) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kDraining);
  return DrainingError();
}

void JobQueue::Publish() {
  metrics_->SetLoad(running_, static_cast<uint32_t>(waiting_.size()));
  uint64_t tokens = 0;
  for (const auto& job : waiting_) tokens += job->PrefillTokens();
  metrics_->SetPrefillTokens(tokens, running_ > 0 ? running_tokens_ : 0);
}

absl::Status JobQueue::Push(std::shared_ptr<QueuedJob> job) {
  job->queue_ = weak_from_this();
  MutexLock lock(&mutex_);
  if (closed_) {
    metrics_->Rejected(AdmissionReason::kDraining);
    return DrainingError();
  }
  if (waiting_.size() >= capacity_) {
    metrics_->Rejected(AdmissionReason::kQueueRequests);
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat("the queue is full (", capacity_, " requests wait)"),
                     {.reason = "QUEUE_REQUESTS",
                      .metadata = {{"limit", absl::StrCat(capacity_)}},
                      .retry_after = absl::Seconds(1)});
  }
  waiting_.push_back(std::move(job));
  metrics_->Admitted();
  Publish();
  return absl::OkStatus();
}

std::shared_ptr<QueuedJob> JobQueue::Pop(absl::Duration patience) {
  std::shared_ptr<QueuedJob> job;
  {
    MutexLock lock(&mutex_);
    mutex_.AwaitUntil(absl::Now() + patience,
                      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return WorkOrWake(); });
    woken_ = false;
    if (waiting_.empty()) return nullptr;
    job = std::move(waiting_.front());
    waiting_.pop_front();
    ++running_;
    running_tokens_ = job->PrefillTokens();
    Publish();
  }
  if (!std::exchange(job->announced_, true)) job->OnWaiting(0);
  return job;
}

void JobQueue::Done() {
  MutexLock lock(&mutex_);
  --running_;
  Publish();
}

void JobQueue::Sweep() {
  std::vector<std::pair<std::shared_ptr<QueuedJob>, absl::Status>> ended;
  std::vector<std::pair<std::shared_ptr<QueuedJob>, uint32_t>> arrived;
  {
    MutexLock lock(&mutex_);
    std::erase_if(waiting_, [&](const std::shared_ptr<QueuedJob>& job) {
      absl::Status status = job->Check(WorkStage::kQueue);
      if (status.ok()) return false;
      ended.emplace_back(job, std::move(status));
      return true;
    });
    // They count as running until their sinks know, so that a drain waits for that.
    uint32_t ahead = running_;
    for (const auto& job : waiting_) {
      if (!std::exchange(job->announced_, true)) arrived.emplace_back(job, ahead);
      ++ahead;
    }
    running_ += static_cast<uint32_t>(ended.size());
    if (!ended.empty()) Publish();
  }
  for (const auto& [job, ahead] : arrived) job->OnWaiting(ahead);
  for (const auto& [job, status] : ended) {
    job->End(status);
    Done();
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

std::deque<std::shared_ptr<QueuedJob>> JobQueue::TakeAll() {
  MutexLock lock(&mutex_);
  auto all = std::exchange(waiting_, {});
  Publish();
  return all;
}

bool JobQueue::WaitUntilIdle(absl::Time deadline) {
  MutexLock lock(&mutex_);
  return mutex_.AwaitUntil(deadline, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return Idle(); });
}

}  // namespace lectern
