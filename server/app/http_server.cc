#include "server/app/http_server.h"

#include <CivetServer.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

const char* Phrase(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return "Not Found";
  }
}

void Send(mg_connection* connection, const HttpReply& reply, bool with_body) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            reply.code, Phrase(reply.code), reply.content_type.c_str(), reply.body.size());
  if (with_body) mg_write(connection, reply.body.data(), reply.body.size());
}

class Route : public CivetHandler {
 public:
  Route(std::string path, HttpServer::Handler handler)
      : path_(std::move(path)), handler_(std::move(handler)) {}

  bool handleGet(CivetServer*, mg_connection* connection) override {
    Send(connection, Reply(connection), true);
    return true;
  }
  bool handleHead(CivetServer*, mg_connection* connection) override {
    Send(connection, Reply(connection), false);
    return true;
  }
  bool handlePost(CivetServer*, mg_connection* c) override { return Refuse(c); }
  bool handlePut(CivetServer*, mg_connection* c) override { return Refuse(c); }
  bool handleDelete(CivetServer*, mg_connection* c) override { return Refuse(c); }
  bool handlePatch(CivetServer*, mg_connection* c) override { return Refuse(c); }
  bool handleOptions(CivetServer*, mg_connection* c) override { return Refuse(c); }

 private:
  // CivetWeb matches prefixes; serve only the path itself.
  HttpReply Reply(mg_connection* connection) const {
    const mg_request_info* info = mg_get_request_info(connection);
    if (path_ != info->local_uri) return {.code = 404, .body = "not found\n"};
    return handler_();
  }
  static bool Refuse(mg_connection* connection) {
    Send(connection, {.code = 405, .body = "only GET\n"}, true);
    return true;
  }
  const std::string path_;
  const HttpServer::Handler handler_;
};

}  // namespace

struct HttpServer::Impl {
  std::vector<std::unique_ptr<Route>> routes;
  std::unique_ptr<CivetServer> server;  // stopped before the routes go
};

HttpServer::HttpServer() : impl_(std::make_unique<Impl>()) {}
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const std::string& address, std::map<std::string, Handler> handlers) {
  const std::vector<std::string> settings = {
      "listening_ports",          address, "num_threads", "4", "request_timeout_ms", "5000",
      "enable_directory_listing", "no"};
  std::unique_ptr<HttpServer> http(new HttpServer());
  try {
    http->impl_->server = std::make_unique<CivetServer>(settings);
  } catch (const CivetException&) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  }
  const std::vector<int> ports = http->impl_->server->getListeningPorts();
  if (ports.empty()) return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  http->port_ = ports[0];
  for (auto& [path, handler] : handlers) {
    http->impl_->routes.push_back(std::make_unique<Route>(path, std::move(handler)));
    http->impl_->server->addHandler(path, *http->impl_->routes.back());
  }
  http->impl_->routes.push_back(std::make_unique<Route>("", nullptr));
  http->impl_->server->addHandler("/", *http->impl_->routes.back());
  return http;
}

}  // namespace lectern
