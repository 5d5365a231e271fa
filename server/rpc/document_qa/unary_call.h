// Unary calls that need no job: they are recorded, answered and ended at once.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>

#include "protocol/metadata.h"
#include "server/rpc/call/call_record.h"
#include "server/rpc/call/grpc_status.h"
#include "server/rpc/call/serving_state.h"

namespace lectern {

// Ends the call with `response`, or with the error if `status` is one.
template <typename Response>
grpc::ServerUnaryReactor* EndUnary(CallRecord& record, grpc::CallbackServerContext* context,
                                   const Response& response, const absl::Status& status) {
  if (status.ok()) {
    context->AddInitialMetadata(kRequestIdKey, record.identity().request_id);
    record.Sent(response.ByteSizeLong());
  }
  record.Failed(status);
  const grpc::Status end = ToGrpcStatus(status);
  record.Finish(end.error_code());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(end);
  return reactor;
}

// Runs `work`, which fills the response: absl::Status work(Engine&, const std::string& owner).
template <typename Request, typename Response, typename Work>
grpc::ServerUnaryReactor* EngineUnary(const RpcEnvironment& environment,
                                      const ServingState& serving,
                                      grpc::CallbackServerContext* context, RpcMethod method,
                                      const Request& request, const Response& response,
                                      const Work& work) {
  CallRecord record(&environment, method, context);
  record.Received(request.ByteSizeLong());
  absl::Status status = record.identity().tenant.status();
  if (status.ok()) {
    const absl::StatusOr<Engine*> engine = serving.Serving();
    status = engine.ok() ? work(**engine, record.identity().owner) : engine.status();
  }
  return EndUnary(record, context, response, status);
}

}  // namespace lectern
