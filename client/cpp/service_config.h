// The text of client/cpp/service_config.json: retries, timeouts, load balancing and health checks
// for every channel (https://github.com/grpc/grpc/blob/master/doc/service_config.md).
#pragma once

namespace lectern {

extern const char kServiceConfig[];

}  // namespace lectern
