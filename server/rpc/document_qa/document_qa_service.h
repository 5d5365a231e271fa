// lectern.v1.DocumentQA on gRPC's callback API: no thread per stream. Handlers check that the
// server takes calls, convert the request, call the engine, and convert the result.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>

#include "server/engine/api.h"
#include "server/rpc/call/call_record.h"
#include "server/rpc/call/serving_state.h"

namespace grpc {
class Service;
}

namespace lectern {

// Constant facts that GetServerStatus reports.
struct ServerFacts {
  std::string isa;
  uint32_t threads = 0;
  uint32_t max_message_bytes = 0;
};

// `serving` and the environment's metrics outlive the services.
std::unique_ptr<grpc::Service> NewDocumentQaService(ServingState* serving,
                                                    const RpcEnvironment& environment,
                                                    const ServerFacts& facts);

}  // namespace lectern
