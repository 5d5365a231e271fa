// A stream of many questions that are answered concurrently. It reads while there is room, keeps
// the jobs, and ends when the client has closed its half and every question has ended.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "server/rpc/call/serving_state.h"
#include "server/rpc/call/stream_writer.h"
#include "server/rpc/document_qa/ask_call.h"

namespace lectern {

inline constexpr uint32_t kMaxOpenAsksPerStream = 32;
// No more requests are read from a client for which this many events wait.
inline constexpr size_t kMaxBacklogPerStream = 256;

template <typename Request, typename Response>
class QuestionStream : public StreamWriter<grpc::ServerBidiReactor<Request, Response>, Response> {
  using Writer = StreamWriter<grpc::ServerBidiReactor<Request, Response>, Response>;

 public:
  QuestionStream(const RpcEnvironment* environment, RpcMethod method, const ServingState& serving,
                 grpc::CallbackServerContext* context)
      : Writer(environment, method, context), serving_(serving) {}

  void Start() {
    if (!this->identity().tenant.ok()) return this->End(this->identity().tenant.status());
    this->StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    const auto keep = this->shared_from_this();
    if (!ok) {
      absl::MutexLock lock(&mutex_);
      reading_ = false;
      half_closed_ = true;
      EndIfOver();
      return;
    }
    const Request request = std::move(request_);
    this->record().Received(request.ByteSizeLong());
    Handle(request);
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    ReadIfRoom();
  }

  void OnWriteDone(bool ok) override {
    const auto keep = this->shared_from_this();
    Writer::OnWriteDone(ok);
    absl::MutexLock lock(&mutex_);
    ReadIfRoom();
  }

  void OnCancel() override {
    const auto keep = this->shared_from_this();
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    for (auto& [key, job] : open_) job.Cancel();
  }

 protected:
  // Handles a message. Called for one message at a time.
  virtual void Handle(const Request& request) = 0;

  // Adds an open question with this key; false if there is one.
  bool Open(const std::string& key) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return open_.try_emplace(key).second;
  }

  // Submits the question to the engine. A refusal also goes to the sink, which closes the key.
  void Submit(const std::string& key, const v1::AskRequest& request,
              const std::shared_ptr<AskSink>& sink) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::StatusOr<std::shared_ptr<Job>> job =
        SubmitAsk(serving_, request, this->identity(), this->context(), sink);
    if (!job.ok()) return sink->OnError(job.status());
    absl::MutexLock lock(&mutex_);
    const auto open = open_.find(key);
    if (open == open_.end()) return;  // it has ended already
    open->second.Set(*job);
    if (cancelled_) open->second.Cancel();
  }

  // Cancels the open question. There may be none: it may have ended in the meantime.
  void CancelQuestion(const std::string& key) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (const auto open = open_.find(key); open != open_.end()) open->second.Cancel();
  }

  // Closes the question of `key`, which has ended: makes room for the next, or ends the stream.
  void Close(const std::string& key) ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto keep = this->shared_from_this();
    absl::MutexLock lock(&mutex_);
    open_.erase(key);
    if (half_closed_) {
      EndIfOver();
    } else {
      ReadIfRoom();
    }
  }

 private:
  void EndIfOver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!open_.empty()) return;
    this->End(cancelled_ ? absl::CancelledError("cancelled") : absl::OkStatus());
  }

  // Without room, the client waits in flow control until a question ends or it has read some
  // events.
  void ReadIfRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (reading_ || half_closed_ || open_.size() >= kMaxOpenAsksPerStream ||
        this->backlog() >= kMaxBacklogPerStream) {
      return;
    }
    reading_ = true;
    this->StartRead(&request_);
  }

  const ServingState& serving_;
  Request request_;  // being read
  absl::Mutex mutex_;
  std::map<std::string, CallJob> open_ ABSL_GUARDED_BY(mutex_);
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lectern
