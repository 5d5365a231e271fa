// inference.GRPCInferenceService, the Open Inference Protocol, over the engine calls of
// lectern.v1.DocumentQA: docs/reference/open_inference.md.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/rpc/call/call_record.h"
#include "server/rpc/call/serving_state.h"

namespace lectern {

// `serving` and the environment's metrics outlive the service.
std::unique_ptr<grpc::Service> NewOpenInferenceService(const ServingState* serving,
                                                       const RpcEnvironment& environment);

}  // namespace lectern
