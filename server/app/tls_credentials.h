// gRPC server credentials whose certificate can change while the server runs.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace lectern {

// What a server shows and whom it believes, all in PEM and checked (base/pem.h).
struct TlsIdentity {
  std::string chain;
  std::string key;
  std::string client_authorities;  // empty: clients need no certificate
};

// Thread-safe. gRPC asks at every handshake, so that a new identity holds from the next connection
// on; connections that stand keep the old one. Outlives the server that uses the credentials.
class TlsCredentials {
 public:
  // Whether clients need a certificate is fixed at the start.
  explicit TlsCredentials(bool mutual) : mutual_(mutual) {}

  void Set(TlsIdentity identity) ABSL_LOCKS_EXCLUDED(mutex_);
  // For one port of one server. Set() has been called.
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
