#include "server/rpc/call/unknown_methods.h"

#include <grpcpp/support/server_callback.h>

namespace lectern {
namespace {

class UnknownMethods final : public grpc::CallbackGenericService {
 public:
  explicit UnknownMethods(const RpcEnvironment& environment) : environment_(environment) {}

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    class Refusal final : public grpc::ServerGenericBidiReactor {
     public:
      Refusal() { Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "unknown method")); }
      void OnDone() override { delete this; }
    };
    CallRecord(&environment_, context->method(), context).Finish(grpc::StatusCode::UNIMPLEMENTED);
    return new Refusal;
  }

 private:
  const RpcEnvironment environment_;
};

}  // namespace

std::unique_ptr<grpc::CallbackGenericService> NewUnknownMethodService(
    const RpcEnvironment& environment) {
  return std::make_unique<UnknownMethods>(environment);
}

}  // namespace lectern
