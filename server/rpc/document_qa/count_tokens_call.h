// One call of CountTokens: waits for the engine's count without holding a thread.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <lectern/v1/document.pb.h>

#include "server/rpc/call/call_record.h"
#include "server/rpc/call/serving_state.h"

namespace lectern {

// The reactor deletes itself when the call is over. `response` is the call's.
grpc::ServerUnaryReactor* StartCountTokens(const RpcEnvironment& environment,
                                           const ServingState& serving,
                                           grpc::CallbackServerContext* context,
                                           const v1::CountTokensRequest& request,
                                           v1::CountTokensResponse& response);

}  // namespace lectern
