#include "bench/serving/calls.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <utility>

#include "client/cpp/rpc_status.h"

namespace lectern::bench {
namespace {

constexpr auto kSlowPause = std::chrono::milliseconds(250);
constexpr size_t kPieceBytes = 64 << 10;

auto DeadlineIn(double seconds) {
  return std::chrono::system_clock::now() +
         std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
}

class AskCall final : public grpc::ClientReadReactor<lectern::v1::AskResponse> {
 public:
  AskCall(AskPlan plan, Recorder* recorder, OnCallDone done)
      : plan_(std::move(plan)), recorder_(recorder), done_(std::move(done)) {}

  void Start(Stub& stub) {
    result_.kind = plan_.kind;
    result_.start = result_.first_text = last_text_ = SteadyClock::now();
    context_.set_deadline(DeadlineIn(plan_.deadline));
    stub.async()->Ask(&context_, &plan_.request, this);
    AddHold();  // a slow reader starts its reads outside of callbacks
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    if (response_.has_delta()) OnText(response_.delta().tokens());
    if (response_.has_answer()) {
      const auto& usage = response_.answer().usage();
      result_.work_tokens = usage.tokens_computed() + usage.generated_tokens();
    }
    if (plan_.kind == Kind::kCancel && ++events_ == plan_.cancel_after) context_.TryCancel();
    if (plan_.kind != Kind::kSlow) return StartRead(&response_);
    // A new alarm each time, because the previous one may still be in its callback.
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(std::chrono::system_clock::now() + kSlowPause,
                [this](bool) { StartRead(&response_); });
  }

  void OnDone(const grpc::Status& status) override {
    result_.end = SteadyClock::now();
    result_.status = FromGrpcStatus(status);
    // Delete the call before reporting it: its context holds the channel, and the last reference to
    // a channel must not be released on a thread of gRPC.
    const OnCallDone done = std::move(done_);
    const CallResult result = result_;
    delete this;
    done(result);
  }

 private:
  void OnText(uint32_t tokens) {
    const auto now = SteadyClock::now();
    const bool first = result_.first_text == result_.start;
    if (first) result_.first_text = now;
    if (plan_.kind == Kind::kAsk) {
      recorder_->Text(tokens, first ? SteadyClock::duration::zero() : now - last_text_);
    }
    last_text_ = now;
  }

  AskPlan plan_;
  Recorder* const recorder_;
  OnCallDone done_;
  grpc::ClientContext context_;
  lectern::v1::AskResponse response_;
  std::unique_ptr<grpc::Alarm> alarm_;
  int events_ = 0;
  SteadyClock::time_point last_text_;
  CallResult result_;
};

class UploadCall final : public grpc::ClientBidiReactor<lectern::v1::UploadDocumentRequest,
                                                        lectern::v1::UploadDocumentResponse> {
 public:
  UploadCall(std::string text, double deadline, OnCallDone done)
      : text_(std::move(text)), done_(std::move(done)) {
    context_.set_deadline(DeadlineIn(deadline));
  }

  void Start(Stub& stub) {
    result_.kind = Kind::kUpload;
    result_.start = result_.first_text = SteadyClock::now();
    stub.async()->UploadDocument(&context_, this);
    request_.mutable_metadata()->set_title("load");
    StartWrite(&request_);
    StartRead(&response_);
    StartCall();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return;
    if (sent_ == text_.size()) return StartWritesDone();
    const size_t piece = std::min(kPieceBytes, text_.size() - sent_);
    request_.set_data(text_.substr(sent_, piece));
    sent_ += piece;
    StartWrite(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_document()) result_.work_tokens = response_.document().tokens();
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    result_.end = SteadyClock::now();
    result_.status = FromGrpcStatus(status);
    // Delete the call before reporting it: its context holds the channel, and the last reference to
    // a channel must not be released on a thread of gRPC.
    const OnCallDone done = std::move(done_);
    const CallResult result = result_;
    delete this;
    done(result);
  }

 private:
  const std::string text_;
  OnCallDone done_;
  grpc::ClientContext context_;
  lectern::v1::UploadDocumentRequest request_;
  lectern::v1::UploadDocumentResponse response_;
  size_t sent_ = 0;
  CallResult result_;
};

}  // namespace

void StartAsk(Stub& stub, AskPlan plan, Recorder* recorder, OnCallDone done) {
  (new AskCall(std::move(plan), recorder, std::move(done)))->Start(stub);
}

void StartUpload(Stub& stub, std::string text, double deadline, OnCallDone done) {
  (new UploadCall(std::move(text), deadline, std::move(done)))->Start(stub);
}

}  // namespace lectern::bench
