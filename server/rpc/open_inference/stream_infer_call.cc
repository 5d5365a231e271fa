#include "server/rpc/open_inference/stream_infer_call.h"

#include <google/rpc/status.pb.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/rpc/call/question_log.h"
#include "server/rpc/open_inference/convert.h"
#include "server/rpc/open_inference/tensors.h"

namespace lectern::open_inference {
namespace {

using Response = inference::ModelStreamInferResponse;

// Parameters of every response. Ids are chosen by the client and may be equal or missing, so this
// number, counted from 0 on each stream, identifies the request of a response.
constexpr char kRequestNumber[] = "request_number";
constexpr char kFinalResponse[] = "triton_final_response";

Response Wrap(inference::ModelInferResponse infer, int64_t number, bool final) {
  (*infer.mutable_parameters())[kRequestNumber].set_int64_param(number);
  (*infer.mutable_parameters())[kFinalResponse].set_bool_param(final);
  Response response;
  *response.mutable_infer_response() = std::move(infer);
  return response;
}

// Merges pieces of one answer; a last response is never merged.
bool Merge(Response& last, const Response& next) {
  const auto& before = last.infer_response().parameters();
  const auto& after = next.infer_response().parameters();
  if (before.at(kFinalResponse).bool_param() || after.at(kFinalResponse).bool_param() ||
      before.at(kRequestNumber).int64_param() != after.at(kRequestNumber).int64_param()) {
    return false;
  }
  AppendText(*last.mutable_infer_response(), next.infer_response());
  return true;
}

}  // namespace

// Sends the events of one request.
class StreamInferCall::Sink : public AskSink {
 public:
  Sink(std::shared_ptr<StreamInferCall> call, std::string key,
       const inference::ModelInferRequest& request, const v1::AskRequest& ask, int64_t number)
      : call_(std::move(call)),
        key_(std::move(key)),
        number_(number),
        responses_(request),
        log_(ask, call_->record().environment().log_prompts) {}

  void OnQueued(uint32_t, std::optional<absl::Duration>) override {}
  void OnProgress(AskStage, uint64_t, uint64_t) override {}
  void OnText(std::string_view text, uint32_t tokens) override {
    log_.OnText(tokens);
    inference::ModelInferResponse response;
    if (responses_.Delta(text, response)) {
      call_->Write(Wrap(std::move(response), number_, /*final=*/false), &Merge);
    }
  }
  void OnAnswer(const Answer& answer) override {
    call_->record().LogPart("question", log_.Answered(answer));
    call_->Write(Wrap(responses_.Final(answer), number_, /*final=*/true), &Merge);
    call_->Close(key_);
  }
  void OnError(const absl::Status& status) override { Fail(WithNamesOfInputs(status)); }

  void Fail(const absl::Status& status) {
    std::vector<LogField> fields = log_.Failed(status);
    fields.push_back({"reason", ReasonOf(status)});
    call_->record().LogPart("question", std::move(fields));
    call_->record().LogIfInternal(status);
    call_->Write(ErrorResponse(status), &Merge);
    call_->Close(key_);
  }

 private:
  // Clients may show only the message, so it has the whole error.
  Response ErrorResponse(const absl::Status& status) const {
    inference::ModelInferResponse infer = responses_.Empty();
    const std::string code = StatusName(static_cast<grpc::StatusCode>(status.code()));
    (*infer.mutable_parameters())["code"].set_string_param(code);
    (*infer.mutable_parameters())["reason"].set_string_param(ReasonOf(status));
    const std::string about = infer.id().empty() ? "" : absl::StrCat("request ", infer.id(), ": ");
    Response response = Wrap(std::move(infer), number_, /*final=*/true);
    response.set_error_message(absl::StrCat(about, code, ": ", ToRpcStatus(status).message()));
    return response;
  }

  const std::shared_ptr<StreamInferCall> call_;
  const std::string key_;
  const int64_t number_;
  InferResponses responses_;
  QuestionLog log_;
};

void StreamInferCall::Handle(const inference::ModelInferRequest& request) {
  const int64_t number = requests_++;
  const std::string key = absl::StrCat(number);
  Open(key);
  const absl::StatusOr<v1::AskRequest> ask = AskOf(request);
  const auto sink =
      std::make_shared<Sink>(std::static_pointer_cast<StreamInferCall>(shared_from_this()), key,
                             request, ask.ok() ? *ask : v1::AskRequest(), number);
  if (!ask.ok()) return sink->Fail(ask.status());
  Submit(key, *ask, sink);
}

}  // namespace lectern::open_inference
