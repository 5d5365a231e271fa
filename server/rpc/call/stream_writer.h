// The writing half of a streaming call. Events wait here while gRPC writes the one before, and
// merge while they wait, so that a slow reader holds a bounded amount of memory and never blocks
// the engine. The call of a reader that takes no message for RpcEnvironment::slow_reader_timeout
// ends.
#pragma once

#include <grpc/grpc.h>
#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/error_details.h"
#include "protocol/metadata.h"
#include "server/rpc/call/call_record.h"
#include "server/rpc/call/grpc_status.h"

namespace lectern {

// `Reactor` is grpc::ServerWriteReactor<Response> or a bidirectional one. Thread-safe.
//
// Lifetime: the call owns itself from Own() until gRPC is done with it; the engine may hold it
// longer. Finish() may end in OnDone() on another thread before it returns, so everything that can
// reach it holds a separate reference.
template <typename Reactor, typename Response>
class StreamWriter : public Reactor,
                     public std::enable_shared_from_this<StreamWriter<Reactor, Response>> {
 public:
  // `environment` outlives the call; gRPC keeps `context` until OnDone().
  StreamWriter(const RpcEnvironment* environment, RpcMethod method,
               grpc::CallbackServerContext* context)
      : record_(environment, method, context),
        metrics_(environment->metrics),
        timeout_(absl::ToChronoNanoseconds(environment->slow_reader_timeout)),
        context_(context) {
    metrics_->StreamOpened();
  }

  // Call once, on an object created by std::make_shared.
  void Own() { self_ = this->shared_from_this(); }

  void OnDone() override {
    metrics_->StreamClosed();
    record_.Finish(final_code());
    {
      absl::MutexLock lock(&write_mutex_);
      DropWaiting(0);
      alarm_ = nullptr;
    }
    const auto last = std::move(self_);
  }

  void OnWriteDone(bool ok) override {
    const auto keep = this->shared_from_this();
    absl::MutexLock lock(&write_mutex_);
    writing_ = false;
    metrics_->StreamBuffered(-1);
    waiting_.pop_front();
    if (!ok) DropWaiting(0);  // the client has gone; OnCancel() handles the rest
    Continue();
  }

 protected:
  // Merges `next` into `last`, an event that waits; false when they cannot be merged.
  using MergeFunction = bool (*)(Response& last, const Response& next);

  CallRecord& record() { return record_; }
  const CallIdentity& identity() const { return record_.identity(); }
  const grpc::CallbackServerContext& context() const { return *context_; }

  // No-op after End().
  void Write(Response event, MergeFunction merge) ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    if (status_ || gone_) return;
    // gRPC may be writing the first.
    for (size_t i = waiting_.size(); i > (writing_ ? 1u : 0u); --i) {
      if (merge(waiting_[i - 1], event)) return;
    }
    waiting_.push_back(std::move(event));
    metrics_->StreamBuffered(1);
    Continue();
  }

  // Ends the call with `status` once everything is written. Only the first call counts. The caller
  // holds a reference.
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    if (status_) return;
    record_.Failed(status);
    status_ = ToGrpcStatus(status);
    Continue();
  }

  // Waiting events, including the one being written.
  size_t backlog() ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    return waiting_.size();
  }

 private:
  using SteadyClock = std::chrono::steady_clock;

  grpc::StatusCode final_code() ABSL_LOCKS_EXCLUDED(write_mutex_) {
    absl::MutexLock lock(&write_mutex_);
    return status_ ? status_->error_code() : grpc::StatusCode::CANCELLED;
  }

  // Drops all but the first `keep` events; later ones are ignored.
  void DropWaiting(size_t keep) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_) {
    gone_ = true;
    metrics_->StreamBuffered(-static_cast<int64_t>(waiting_.size() - keep));
    waiting_.resize(keep);
  }

  void Continue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_) {
    if (writing_ || finished_ || cancelling_) return;
    if (!waiting_.empty()) {
      writing_ = true;
      write_start_ = SteadyClock::now();
      if (!alarm_is_set_) SetAlarm(timeout_);
      record_.Sent(waiting_.front().ByteSizeLong());
      // Sent with the first message: initial metadata alone would commit the client to this call,
      // and it could no longer retry a refusal elsewhere.
      if (!std::exchange(started_, true)) {
        context_->AddInitialMetadata(kRequestIdKey, identity().request_id);
      }
      this->StartWrite(&waiting_.front());
    } else if (status_) {
      finished_ = true;
      this->Finish(*status_);
    }
  }

  // One alarm covers all writes within the timeout, so a write needs no timer.
  void SetAlarm(std::chrono::nanoseconds delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_) {
    alarm_is_set_ = true;
    alarm_ = std::make_unique<grpc::Alarm>();  // the old alarm may be the one that fires
    alarm_->Set(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                             gpr_time_from_nanos(delay.count(), GPR_TIMESPAN)),
                [weak = this->weak_from_this()](bool rang) {
                  if (const auto self = weak.lock(); rang && self) self->CheckReader();
                });
  }

  static constexpr char kSlowReader[] = "SLOW_READER: no message was taken for too long";

  void CheckReader() ABSL_LOCKS_EXCLUDED(write_mutex_) {
    {
      absl::MutexLock lock(&write_mutex_);
      alarm_is_set_ = false;
      if (!writing_ || gone_) return;
      const auto left = timeout_ - (SteadyClock::now() - write_start_);
      if (left > left.zero()) return SetAlarm(left);
      metrics_->SlowReaderDisconnected();
      const absl::Status status =
          MakeError(absl::StatusCode::kResourceExhausted, kSlowReader, {.reason = "SLOW_READER"});
      record_.Failed(status);
      status_ = ToGrpcStatus(status);
      DropWaiting(1);
      cancelling_ = true;  // so that the call stays until it has been cancelled
    }
    // A regular status would wait for the message that is not taken. TryCancel() does not wait, but
    // carries only a code and a text. OnCancel() cancels the job.
    grpc_call_cancel_with_status(context_->c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED, kSlowReader,
                                 nullptr);
    absl::MutexLock lock(&write_mutex_);
    cancelling_ = false;
    Continue();
  }

  CallRecord record_;
  ServerMetrics* const metrics_;
  const std::chrono::nanoseconds timeout_;
  grpc::CallbackServerContext* const context_;
  std::shared_ptr<StreamWriter> self_;
  absl::Mutex write_mutex_;
  // While writing_, the first is being written. A deque, because StartWrite() keeps its address.
  std::deque<Response> waiting_ ABSL_GUARDED_BY(write_mutex_);
  bool started_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool cancelling_ ABSL_GUARDED_BY(write_mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(write_mutex_) = false;
  std::optional<grpc::Status> status_ ABSL_GUARDED_BY(write_mutex_);
  SteadyClock::time_point write_start_ ABSL_GUARDED_BY(write_mutex_);
  bool alarm_is_set_ ABSL_GUARDED_BY(write_mutex_) = false;
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(write_mutex_);
};

}  // namespace lectern
