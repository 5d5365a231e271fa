// gRPC server credentials whose certificate can change while the server runs.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace lectern {

// The certificate of a server and the authorities it trusts, in PEM and checked (server/app/pem.h).
struct TlsIdentity {
  std::string chain;
  std::string key;
  std::string client_authorities;  // empty: clients need no certificate
};

// Thread-safe. gRPC asks at every handshake, so a new identity applies from the next connection on;
// existing connections keep the old one. Must outlive the server that uses the credentials.
class TlsCredentials {
 public:
  // `mutual`: clients need a certificate. Fixed for the lifetime of the object.
  explicit TlsCredentials(bool mutual) : mutual_(mutual) {}

  void Set(TlsIdentity identity) ABSL_LOCKS_EXCLUDED(mutex_);
  // Credentials for one port of one server. Call Set() first.
  std::shared_ptr<grpc::ServerCredentials> New();

 private:
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config);

  const bool mutual_;
  absl::Mutex mutex_;
  TlsIdentity identity_ ABSL_GUARDED_BY(mutex_);
  bool fetched_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lectern
