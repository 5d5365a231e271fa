#include "server/rpc/open_inference/infer_call.h"

#include "protocol/metadata.h"
#include "server/rpc/call/grpc_status.h"
#include "server/rpc/document_qa/ask_call.h"

namespace lectern::open_inference {

InferCall::InferCall(const RpcEnvironment* environment, grpc::CallbackServerContext* context,
                     const inference::ModelInferRequest& request,
                     inference::ModelInferResponse* response)
    : context_(context),
      response_(response),
      record_(environment, RpcMethod::kModelInfer, context),
      responses_(request) {
  record_.Received(request.ByteSizeLong());
}

void InferCall::Start(const ServingState& serving, const inference::ModelInferRequest& request) {
  if (!record_.identity().tenant.ok()) return Fail(record_.identity().tenant.status());
  const absl::StatusOr<v1::AskRequest> ask = AskOf(request);
  if (!ask.ok()) return Fail(ask.status());
  log_.emplace(*ask, record_.environment().log_prompts);
  const absl::StatusOr<std::shared_ptr<Job>> job =
      SubmitAsk(serving, *ask, record_.identity(), *context_, shared_from_this());
  if (!job.ok()) return OnError(job.status());
  job_.Set(*job);
}

void InferCall::OnAnswer(const Answer& answer) {
  record_.Add(log_->Answered(answer));
  *response_ = responses_.Final(answer);
  record_.Sent(response_->ByteSizeLong());
  context_->AddInitialMetadata(kRequestIdKey, record_.identity().request_id);
  Finish(grpc::Status::OK);
}

void InferCall::Fail(const absl::Status& status) {
  if (log_) record_.Add(log_->Failed(status));
  record_.Failed(status);
  const grpc::Status end = ToGrpcStatus(status);
  code_ = end.error_code();
  Finish(end);
}

void InferCall::OnDone() {
  record_.Finish(code_);
  const auto last = std::move(self_);
}

}  // namespace lectern::open_inference
