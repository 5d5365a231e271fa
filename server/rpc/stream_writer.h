// The writing half of a streaming call: events wait here while gRPC writes the one before, and
// merge while they wait, so that a slow reader holds a bounded amount and never holds up the
// engine.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/metrics/server_metrics.h"
#include "server/rpc/grpc_status.h"

namespace lectern {

// `Reactor` is grpc::ServerWriteReactor<Response> or a bidirectional one. Thread-safe.
//
// Lifetime: the call owns itself from Own() until gRPC is done with it; the engine may hold it
// longer. Finish() may end in OnDone() on another thread before it returns, so everything that can
// reach it runs under a reference of its own.
template <typename Reactor, typename Response>
class StreamWriter : public Reactor,
                     public std::enable_shared_from_this<StreamWriter<Reactor, Response>> {
 public:
  StreamWriter(ServerMetrics* metrics, const char* method)
      : metrics_(metrics), method_(method), start_(absl::Now()) {
    metrics_->CallStarted(method_);
    metrics_->StreamOpened();
  }

  // To be called once, on a call made by std::make_shared.
  void Own() { self_ = this->shared_from_this(); }

  void OnDone() override {
    metrics_->StreamClosed();
    metrics_->CallFinished(method_, StatusName(final_code()), absl::Now() - start_);
    {
      absl::MutexLock lock(&write_mutex_);
      DropWaiting();
    }
    const auto last = std::move(self_);
  }

  void OnWriteDone(bool ok) override {
    const auto keep = this->shared_from_this();
    absl::MutexLock lock(&write_mutex_);
    writing_ = false;
    metrics_->StreamBuffered(-1);
    waiting_.pop_front();
    if (!ok) DropWaiting();  // the client has gone; OnCancel() tells the rest
    Continue();
  }

 protected:
  // Merges `next` into `last`, an event that waits; false when they cannot be merged.
  using MergeFunction = bool (*)(Response& last, const Response& next);

  // No-op after End().
  void Write(Response event, MergeFunction merge) ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    if (status_ || gone_) return;
    // The first of them may be in gRPC's hands.
    for (size_t i = waiting_.size(); i > (writing_ ? 1u : 0u); --i) {
      if (merge(waiting_[i - 1], event)) return;
    }
    waiting_.push_back(std::move(event));
    metrics_->StreamBuffered(1);
    Continue();
  }

  // Ends the call with `status` once everything is written. Only the first call counts. The caller
  // holds a reference.
  void End(const grpc::Status& status) ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    if (status_) return;
    status_ = status;
    Continue();
  }

  // Events that wait, the one being written included.
  size_t backlog() ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    return waiting_.size();
  }

  grpc::StatusCode final_code() ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    return status_ ? status_->error_code() : grpc::StatusCode::CANCELLED;
  }

 private:
  void DropWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_) {
    gone_ = true;
    metrics_->StreamBuffered(-static_cast<int64_t>(waiting_.size()));
    waiting_.clear();
  }

  void Continue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_) {
    if (writing_ || finished_) return;
    if (!waiting_.empty()) {
      writing_ = true;
      this->StartWrite(&waiting_.front());
    } else if (status_) {
      finished_ = true;
      this->Finish(*status_);
    }
  }

  ServerMetrics* const metrics_;
  const char* const method_;
  const absl::Time start_;
  std::shared_ptr<StreamWriter> self_;
  absl::Mutex write_mutex_;
  // The first is being written while writing_. A deque: StartWrite() keeps its address.
  std::deque<Response> waiting_ ABSL_GUARDED_BY(write_mutex_);
  bool writing_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(write_mutex_) = false;
  std::optional<grpc::Status> status_ ABSL_GUARDED_BY(write_mutex_);
};

}  // namespace lectern
