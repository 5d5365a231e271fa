#include "server/rpc/ask_many_call.h"

#include <google/rpc/status.pb.h>

#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/base/utf8.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

constexpr size_t kMaxTagBytes = 128;

}  // namespace

// The events of one question, with its tag.
class AskManyCall::TaggedSink : public AskSink {
 public:
  TaggedSink(std::shared_ptr<AskManyCall> call, std::string tag, const v1::AskRequest& request)
      : call_(std::move(call)),
        tag_(std::move(tag)),
        events_(request.answer_id(), request.after_seq()),
        log_(request, call_->record().environment().log_prompts) {}

  void OnQueued(uint32_t position) override { Write(events_.Queued(position)); }
  void OnProgress(AskStage stage, uint64_t done, uint64_t total) override {
    Write(events_.Progress(stage, done, total));
  }
  void OnText(std::string_view text, uint32_t tokens) override {
    log_.OnText(tokens);
    v1::AskResponse response;
    if (events_.Delta(text, tokens, response)) Write(std::move(response));
  }
  void OnAnswer(const Answer& answer) override {
    call_->record().LogPart("question", log_.Answered(answer));
    Write(events_.Final(answer));
    call_->Close(tag_);
  }
  void OnError(const absl::Status& status) override {
    std::vector<LogField> fields = log_.Failed(status);
    fields.push_back({"reason", ReasonOf(status)});
    call_->record().LogPart("question", std::move(fields));
    call_->WriteError(tag_, status);
    call_->Close(tag_);
  }

 private:
  void Write(v1::AskResponse event) {
    v1::AskManyResponse response;
    response.set_tag(tag_);
    *response.mutable_response() = std::move(event);
    call_->StreamWriter::Write(std::move(response), &AskManyCall::Merge);
  }

  const std::shared_ptr<AskManyCall> call_;
  const std::string tag_;
  AskEvents events_;
  QuestionLog log_;
};

bool AskManyCall::Merge(v1::AskManyResponse& last, const v1::AskManyResponse& next) {
  if (last.tag() != next.tag() || !last.has_response() || !next.has_response()) return false;
  return AskEvents::Merge(*last.mutable_response(), next.response());
}

void AskManyCall::Start() {
  if (!identity().tenant.ok()) return End(identity().tenant.status());
  StartRead(&request_);
}

void AskManyCall::OnReadDone(bool ok) {
  const auto keep = shared_from_this();
  if (!ok) {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    half_closed_ = true;
    if (open_.empty()) End(cancelled_ ? absl::CancelledError("cancelled") : absl::OkStatus());
    return;
  }
  const v1::AskManyRequest request = std::move(request_);
  record().Received(request.ByteSizeLong());
  Handle(request);
  absl::MutexLock lock(&mutex_);
  reading_ = false;
  ReadIfRoom();
}

void AskManyCall::OnWriteDone(bool ok) {
  const auto keep = shared_from_this();
  StreamWriter::OnWriteDone(ok);
  absl::MutexLock lock(&mutex_);
  ReadIfRoom();
}

// Without room the client waits in flow control until a question ends or it has read some events.
void AskManyCall::ReadIfRoom() {
  if (reading_ || half_closed_ || open_.size() >= kMaxOpenAsksPerStream ||
      backlog() >= kMaxBacklogPerStream) {
    return;
  }
  reading_ = true;
  StartRead(&request_);
}

void AskManyCall::Handle(const v1::AskManyRequest& request) {
  if (request.tag().empty() || request.tag().size() > kMaxTagBytes) {
    WriteError(ReplaceInvalidUtf8(request.tag().substr(0, kMaxTagBytes)),
               ViolationsError({{"tag", "must be 1 to 128 bytes"}}));
    return;
  }
  if (request.cancel()) {
    CancelTag(request.tag());
    return;
  }
  bool duplicate = false;
  {
    absl::MutexLock lock(&mutex_);
    duplicate = !open_.try_emplace(request.tag()).second;
  }
  if (duplicate) {
    WriteError(request.tag(), ViolationsError({{"tag", "is that of a question still open"}}));
    return;
  }
  const auto sink = std::make_shared<TaggedSink>(Self(), request.tag(), request.ask());
  const absl::StatusOr<std::shared_ptr<Job>> job = Submit(request.ask(), sink);
  if (!job.ok()) return sink->OnError(job.status());
  absl::MutexLock lock(&mutex_);
  const auto open = open_.find(request.tag());
  if (open == open_.end()) return;  // it has ended already
  open->second.job = *job;
  if (cancelled_ || open->second.cancelled) (*job)->Cancel();
}

absl::StatusOr<std::shared_ptr<Job>> AskManyCall::Submit(const v1::AskRequest& request,
                                                         std::shared_ptr<AskSink> sink) {
  LECTERN_ASSIGN_OR_RETURN(Engine* const engine, serving_.Serving());
  LECTERN_ASSIGN_OR_RETURN(const AskOptions options,
                           AskOptionsOf(*engine, request, identity(), DeadlineOf(context())));
  return engine->Ask(options, std::move(sink));
}

void AskManyCall::CancelTag(const std::string& tag) {
  absl::MutexLock lock(&mutex_);
  const auto open = open_.find(tag);
  if (open == open_.end()) return;  // it may have ended while the message travelled
  open->second.cancelled = true;
  if (open->second.job != nullptr) open->second.job->Cancel();
}

void AskManyCall::OnCancel() {
  const auto keep = shared_from_this();
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (auto& [tag, open] : open_) {
    if (open.job != nullptr) open.job->Cancel();
  }
}

void AskManyCall::WriteError(const std::string& tag, const absl::Status& status) {
  record().LogIfInternal(status);
  const google::rpc::Status rpc = ToRpcStatus(status);
  v1::AskManyResponse response;
  response.set_tag(tag);
  response.mutable_error()->set_code(rpc.code());
  response.mutable_error()->set_message(rpc.message());
  response.mutable_error()->set_status(rpc.SerializeAsString());
  Write(std::move(response), &AskManyCall::Merge);
}

void AskManyCall::Close(const std::string& tag) {
  const auto keep = shared_from_this();
  absl::MutexLock lock(&mutex_);
  open_.erase(tag);
  if (half_closed_) {
    if (open_.empty()) End(cancelled_ ? absl::CancelledError("cancelled") : absl::OkStatus());
  } else {
    ReadIfRoom();
  }
}

}  // namespace lectern
