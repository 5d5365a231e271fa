#include "server/rpc/document_qa/ask_many_call.h"

#include <google/rpc/status.pb.h>

#include <utility>
#include <vector>

#include "base/utf8.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

constexpr size_t kMaxTagBytes = 128;

}  // namespace

// Sends the events of one question, with its tag.
class AskManyCall::TaggedSink : public AskSink {
 public:
  TaggedSink(std::shared_ptr<AskManyCall> call, std::string tag, const v1::AskRequest& request)
      : call_(std::move(call)),
        tag_(std::move(tag)),
        events_(request.answer_id(), request.after_seq()),
        log_(request, call_->record().environment().log_prompts) {}

  void OnQueued(uint32_t position, std::optional<absl::Duration> estimated_wait) override {
    Write(events_.Queued(position, estimated_wait));
  }
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

void AskManyCall::Handle(const v1::AskManyRequest& request) {
  if (request.tag().empty() || request.tag().size() > kMaxTagBytes) {
    WriteError(ReplaceInvalidUtf8(request.tag().substr(0, kMaxTagBytes)),
               ViolationsError({{"tag", "must be 1 to 128 bytes"}}));
    return;
  }
  if (request.cancel()) {
    CancelQuestion(request.tag());
    return;
  }
  if (!Open(request.tag())) {
    WriteError(request.tag(), ViolationsError({{"tag", "is that of a question still open"}}));
    return;
  }
  Submit(request.tag(), request.ask(),
         std::make_shared<TaggedSink>(Self(), request.tag(), request.ask()));
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

}  // namespace lectern
