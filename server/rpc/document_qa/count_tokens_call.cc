#include "server/rpc/document_qa/count_tokens_call.h"

#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "protocol/metadata.h"
#include "server/rpc/call/call_job.h"
#include "server/rpc/call/grpc_status.h"
#include "server/rpc/document_qa/convert.h"

namespace lectern {
namespace {

class CountTokensCall final : public grpc::ServerUnaryReactor {
 public:
  CountTokensCall(const RpcEnvironment& environment, grpc::CallbackServerContext* context,
                  v1::CountTokensResponse& response)
      : record_(&environment, RpcMethod::kCountTokens, context),
        context_(context),
        response_(response) {}

  // The engine may end the call while this runs; `self` keeps the reactor until it returns.
  void Start(const ServingState& serving, const v1::CountTokensRequest& request,
             std::shared_ptr<CountTokensCall> self) {
    self_ = self;
    record_.Received(request.ByteSizeLong());
    const absl::Status status = Submit(serving, request);
    if (!status.ok()) End(status);
  }

  void OnCancel() override {
    const auto keep = self_;
    job_.Cancel();
  }
  void OnDone() override { const auto last = std::move(self_); }

 private:
  absl::Status Submit(const ServingState& serving, const v1::CountTokensRequest& request) {
    LECTERN_RETURN_IF_ERROR(record_.identity().tenant.status());
    LECTERN_ASSIGN_OR_RETURN(Engine* const engine, serving.Serving());
    CountOptions options = FromProto(request);
    options.owner = record_.identity().owner;
    options.deadline = absl::FromChrono(context_->deadline());
    LECTERN_ASSIGN_OR_RETURN(
        std::shared_ptr<Job> job,
        engine->CountTokens(std::move(options), [this](const absl::StatusOr<TokenCount>& count) {
          if (count.ok()) response_ = ToProto(*count);
          End(count.status());
        }));
    job_.Set(std::move(job));
    return absl::OkStatus();
  }

  void End(const absl::Status& status) {
    if (status.ok()) {
      context_->AddInitialMetadata(kRequestIdKey, record_.identity().request_id);
      record_.Sent(response_.ByteSizeLong());
    }
    record_.Failed(status);
    const grpc::Status end = ToGrpcStatus(status);
    record_.Finish(end.error_code());
    Finish(end);
  }

  CallRecord record_;
  grpc::CallbackServerContext* const context_;
  v1::CountTokensResponse& response_;
  CallJob job_;
  std::shared_ptr<CountTokensCall> self_;  // until OnDone
};

}  // namespace

grpc::ServerUnaryReactor* StartCountTokens(const RpcEnvironment& environment,
                                           const ServingState& serving,
                                           grpc::CallbackServerContext* context,
                                           const v1::CountTokensRequest& request,
                                           v1::CountTokensResponse& response) {
  const auto call = std::make_shared<CountTokensCall>(environment, context, response);
  call->Start(serving, request, call);
  return call.get();
}

}  // namespace lectern
