#include "server/rpc/open_inference/service.h"

#include <inference/open_inference.grpc.pb.h>

#include "base/status_macros.h"
#include "server/engine/request_checks.h"
#include "server/rpc/document_qa/unary_call.h"
#include "server/rpc/open_inference/convert.h"
#include "server/rpc/open_inference/infer_call.h"
#include "server/rpc/open_inference/stream_infer_call.h"

namespace lectern {
namespace {

class OpenInferenceService final : public inference::GRPCInferenceService::CallbackService {
 public:
  OpenInferenceService(const ServingState* serving, const RpcEnvironment& environment)
      : serving_(serving), environment_(environment) {}

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest*,
                                       inference::ServerLiveResponse* response) override {
    response->set_live(true);
    CallRecord record(&environment_, RpcMethod::kServerLive, context);
    return EndUnary(record, context, *response, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest*,
                                        inference::ServerReadyResponse* response) override {
    response->set_ready(IsReady());
    CallRecord record(&environment_, RpcMethod::kServerReady, context);
    return EndUnary(record, context, *response, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override {
    // The engine exists when the server is ready. An unknown model is not ready.
    response->set_ready(IsReady() && open_inference::CheckVersion(request->version(), "").ok() &&
                        FindModel(serving_->engine()->models(), request->name(), "").ok());
    return EndForCaller(RpcMethod::kModelReady, context, *response);
  }

  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest*,
                                           inference::ServerMetadataResponse* response) override {
    response->set_name("lectern");
    response->set_version(environment_.version);
    response->add_extensions("model_stream_infer");
    response->add_extensions("parameters");
    return EndForCaller(RpcMethod::kServerMetadata, context, *response);
  }

  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override {
    return AboutModel(
        RpcMethod::kModelMetadata, context, *request, *response,
        [&](const ModelInfo& model) { *response = open_inference::MetadataOf(model); });
  }

  grpc::ServerUnaryReactor* ModelConfig(grpc::CallbackServerContext* context,
                                        const inference::ModelConfigRequest* request,
                                        inference::ModelConfigResponse* response) override {
    return AboutModel(RpcMethod::kModelConfig, context, *request, *response,
                      [&](const ModelInfo& model) {
                        *response->mutable_config() = open_inference::ConfigOf(model);
                      });
  }

  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override {
    const auto call =
        std::make_shared<open_inference::InferCall>(&environment_, context, *request, response);
    call->Own();
    call->Start(*serving_, *request);
    return call.get();
  }

  grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
  ModelStreamInfer(grpc::CallbackServerContext* context) override {
    const auto call =
        std::make_shared<open_inference::StreamInferCall>(&environment_, *serving_, context);
    call->Own();
    call->Start();
    return call.get();
  }

 private:
  bool IsReady() const { return serving_->state() == ServerState::kServing; }

  // Ends a call that works in every state of the server, but only for known callers. (ServerLive
  // and ServerReady answer everybody, as health checks do.)
  template <typename Response>
  grpc::ServerUnaryReactor* EndForCaller(RpcMethod method, grpc::CallbackServerContext* context,
                                         Response& response) const {
    CallRecord record(&environment_, method, context);
    const absl::Status status = record.identity().tenant.status();
    if (!status.ok()) response.Clear();
    return EndUnary(record, context, response, status);
  }

  // Calls `describe` with the model that the request names.
  template <typename Request, typename Response, typename Describe>
  grpc::ServerUnaryReactor* AboutModel(RpcMethod method, grpc::CallbackServerContext* context,
                                       const Request& request, const Response& response,
                                       const Describe& describe) const {
    return EngineUnary(
        environment_, *serving_, context, method, request, response,
        [&](Engine& engine, const std::string&) {
          LECTERN_RETURN_IF_ERROR(open_inference::CheckVersion(request.version(), "version"));
          const auto model = FindModel(engine.models(), request.name(), "name");
          if (model.ok()) describe((*model)->info());
          return model.status();
        });
  }

  const ServingState* const serving_;
  const RpcEnvironment environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewOpenInferenceService(const ServingState* serving,
                                                       const RpcEnvironment& environment) {
  return std::make_unique<OpenInferenceService>(serving, environment);
}

}  // namespace lectern
