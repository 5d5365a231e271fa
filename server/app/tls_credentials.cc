#include "server/app/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpcpp/version_info.h>

#include <utility>

namespace lectern {
namespace {

// Wraps credentials of gRPC's C core for its C++ library. The library itself reloads only from
// files and may read a certificate with the wrong key: its FileWatcherCertificateProvider (1.51)
// then refuses every handshake.
#if GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR < 54
class CoreCredentials final : public grpc::ServerCredentials {
 public:
  explicit CoreCredentials(grpc_server_credentials* core) : core_(core) {}
  ~CoreCredentials() override { grpc_server_credentials_release(core_); }
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), core_);
  }
  grpc_server_credentials* const core_;
};
#else
class CoreCredentials final : public grpc::ServerCredentials {
 public:
  explicit CoreCredentials(grpc_server_credentials* core) : grpc::ServerCredentials(core) {}
};
#endif

}  // namespace

void TlsCredentials::Set(TlsIdentity identity) {
  absl::MutexLock lock(&mutex_);
  identity_ = std::move(identity);
  fetched_ = false;
}

std::shared_ptr<grpc::ServerCredentials> TlsCredentials::New() {
  const auto clients = mutual_ ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                               : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  return std::make_shared<CoreCredentials>(grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, &Fetch, this)));
}

grpc_ssl_certificate_config_reload_status TlsCredentials::Fetch(
    void* self, grpc_ssl_server_certificate_config** config) {
  auto& credentials = *static_cast<TlsCredentials*>(self);
  absl::MutexLock lock(&credentials.mutex_);
  if (credentials.fetched_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const TlsIdentity& identity = credentials.identity_;
  const grpc_ssl_pem_key_cert_pair pair = {identity.key.c_str(), identity.chain.c_str()};
  // The authorities matter only if clients are asked for certificates, but gRPC 1.51 aborts when a
  // fetched config has none.
  const std::string& roots = credentials.mutual_ ? identity.client_authorities : identity.chain;
  *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
  credentials.fetched_ = true;
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace lectern
