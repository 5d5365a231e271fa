// The HTTP server next to gRPC: /metrics for Prometheus, /startupz, /readyz and /livez for
// Kubernetes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace lectern {

struct HttpReply {
  int code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Answers GET and HEAD requests for fixed paths from four threads; other requests get 404 or 405.
// Handlers are called from those threads and must not block.
class HttpServer {
 public:
  using Handler = std::function<HttpReply()>;

  // Listens on `address`, HOST:PORT; port 0 picks a free one. UNAVAILABLE names an address on which
  // it cannot listen.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           std::map<std::string, Handler> handlers);
  ~HttpServer();

  int port() const { return port_; }

 private:
  struct Impl;
  HttpServer();
  std::unique_ptr<Impl> impl_;
  int port_ = 0;
};

}  // namespace lectern
