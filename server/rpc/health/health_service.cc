#include <grpc/health/v1/health.grpc.pb.h>

#include "server/rpc/call/grpc_status.h"
#include "server/rpc/call/stream_writer.h"
#include "server/rpc/health/health_service.h"

namespace lectern {
namespace {

namespace health = grpc::health::v1;
using Response = health::HealthCheckResponse;

bool IsKnown(const std::string& service) {
  return service.empty() || service == "lectern.v1.DocumentQA" ||
         service == "inference.GRPCInferenceService";
}

Response StatusOf(ServerState state) {
  Response response;
  response.set_status(state == ServerState::kServing ? Response::SERVING : Response::NOT_SERVING);
  return response;
}

// Replaces a waiting status by a newer one.
bool Merge(Response& last, const Response& next) {
  last = next;
  return true;
}

class WatchCall final : public StreamWriter<grpc::ServerWriteReactor<Response>, Response> {
 public:
  WatchCall(const RpcEnvironment* environment, grpc::CallbackServerContext* context,
            ServingState* serving)
      : StreamWriter(environment, RpcMethod::kHealthWatch, context), serving_(serving) {}

  void Start(bool known) {
    if (!known) {
      Response unknown;
      unknown.set_status(Response::SERVICE_UNKNOWN);
      Write(unknown, &Merge);
      return;
    }
    absl::MutexLock lock(&stop_mutex_);
    watch_ = serving_->AddWatch([this](ServerState state) {
      Write(StatusOf(state), &Merge);
      if (state == ServerState::kStopped) {
        End(absl::UnavailableError("the server is shutting down"));
      }
    });
  }

  void OnCancel() override {
    const auto keep = shared_from_this();
    Stop();
    End(absl::CancelledError("cancelled by the client"));
  }
  void OnDone() override {
    Stop();
    StreamWriter::OnDone();
  }

 private:
  void Stop() {
    absl::MutexLock lock(&stop_mutex_);
    if (watch_) serving_->Unwatch(*watch_);
    watch_.reset();
  }

  ServingState* const serving_;
  absl::Mutex stop_mutex_;
  std::optional<ServingState::Watch> watch_ ABSL_GUARDED_BY(stop_mutex_);
};

class HealthServiceImpl final : public health::Health::CallbackService {
 public:
  HealthServiceImpl(ServingState* serving, const RpcEnvironment& environment)
      : serving_(serving), environment_(environment) {}

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const health::HealthCheckRequest* request,
                                  Response* response) override {
    CallRecord record(&environment_, RpcMethod::kHealthCheck, context);
    grpc::Status status = grpc::Status::OK;
    if (IsKnown(request->service())) {
      *response = StatusOf(serving_->state());
    } else {
      status = grpc::Status(grpc::StatusCode::NOT_FOUND, "unknown service");
    }
    record.Finish(status.error_code());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }

  grpc::ServerWriteReactor<Response>* Watch(grpc::CallbackServerContext* context,
                                            const health::HealthCheckRequest* request) override {
    const auto call = std::make_shared<WatchCall>(&environment_, context, serving_);
    call->Own();
    call->Start(IsKnown(request->service()));
    return call.get();
  }

 private:
  ServingState* const serving_;
  const RpcEnvironment environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewHealthService(ServingState* serving,
                                                const RpcEnvironment& environment) {
  return std::make_unique<HealthServiceImpl>(serving, environment);
}

}  // namespace lectern
