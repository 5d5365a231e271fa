// Refuses calls of methods that no registered service has, so that they are counted and logged.
#pragma once

#include <grpcpp/generic/async_generic_service.h>

#include <memory>

#include "server/rpc/call/call_record.h"

namespace lectern {

// Answers every call with UNIMPLEMENTED. The environment's metrics outlive the service.
std::unique_ptr<grpc::CallbackGenericService> NewUnknownMethodService(
    const RpcEnvironment& environment);

}  // namespace lectern
