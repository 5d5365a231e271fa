// lectern.v1.DocumentQA on gRPC's callback API: no thread per stream. Handlers are thin: check that
// the server serves, convert, hand to the engine, convert back.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
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

// What GetServerStatus tells that does not change.
struct ServerFacts {
  std::string isa;
  uint32_t threads = 0;
  uint32_t max_message_bytes = 0;
};

// `serving` and the environment's metrics outlive the services.
std::unique_ptr<grpc::Service> NewDocumentQaService(ServingState* serving,
                                                    const RpcEnvironment& environment,
                                                    const ServerFacts& facts);

// Refuses every method that no registered service has, so that such calls are counted, too.
std::unique_ptr<grpc::CallbackGenericService> NewUnknownMethodService(
    const RpcEnvironment& environment);

}  // namespace lectern
