// Controls who may connect and call: TLS, client certificates and tokens, reloaded when their files
// change. docs/guides/security.md.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/files/file_watch.h"
#include "server/app/options.h"
#include "server/app/tls_credentials.h"
#include "server/metrics/server_metrics.h"
#include "server/rpc/call/access_tokens.h"

namespace lectern {

// Outlives the gRPC server. `options` and `metrics` outlive this object.
class Security {
 public:
  // Reads the files named in the options. INVALID_ARGUMENT names the file and what is wrong with
  // it.
  static absl::StatusOr<std::unique_ptr<Security>> Create(const Options& options,
                                                          ServerMetrics* metrics);

  // Credentials for the port: TLS if there is a certificate, else plain text.
  std::shared_ptr<grpc::ServerCredentials> credentials();
  // Null if calls need no token.
  const AccessTokens* tokens() const { return token_watch_ == nullptr ? nullptr : &tokens_; }

 private:
  Security(const Options& options, ServerMetrics* metrics)
      : options_(options), metrics_(metrics), tls_(!options.security.tls_client_ca.empty()) {}
  absl::Status StartTls();
  absl::Status StartTokens();

  const Options& options_;
  ServerMetrics* const metrics_;
  TlsCredentials tls_;
  AccessTokens tokens_;
  // Destroyed first: their threads use the fields above.
  std::unique_ptr<FileWatch> tls_watch_;
  std::unique_ptr<FileWatch> token_watch_;
};

}  // namespace lectern
