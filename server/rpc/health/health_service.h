// The gRPC health checking service.
#pragma once

#include <grpcpp/server_context.h>

#include <memory>

#include "server/rpc/call/call_record.h"
#include "server/rpc/call/serving_state.h"

namespace grpc {
class Service;
}

namespace lectern {

// grpc.health.v1.Health for "", "lectern.v1.DocumentQA" and "inference.GRPCInferenceService".
std::unique_ptr<grpc::Service> NewHealthService(ServingState* serving,
                                                const RpcEnvironment& environment);

}  // namespace lectern
