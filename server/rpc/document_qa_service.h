// lectern.v1.DocumentQA on gRPC's callback API: no thread per stream. Handlers are thin: check that
// the server serves, convert, hand to the engine, convert back.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>

#include "server/engine/types.h"
#include "server/metrics/server_metrics.h"
#include "server/rpc/serving_state.h"

namespace grpc {
class Service;
}

namespace lectern {

// What GetServerStatus tells that does not change.
struct ServerFacts {
  std::string version;
  std::string isa;
  uint32_t threads = 0;
  uint32_t max_message_bytes = 0;
};

// `serving` and `metrics` outlive the service.
std::unique_ptr<grpc::Service> NewDocumentQaService(ServingState* serving, ServerMetrics* metrics,
                                                    const ServerFacts& facts);

// grpc.health.v1.Health for "" and "lectern.v1.DocumentQA".
std::unique_ptr<grpc::Service> NewHealthService(ServingState* serving, ServerMetrics* metrics);

}  // namespace lectern
