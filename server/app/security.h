// Who may connect and who may call: TLS, client certificates and tokens, read again when their
// files change. docs/guides/security.md.
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
  // Reads the files that the options name. INVALID_ARGUMENT that names the file and what is wrong
  // with it.
  static absl::StatusOr<std::unique_ptr<Security>> Create(const Options& options,
                                                          ServerMetrics* metrics);

  // Of the port: TLS if there is a certificate, else plain text.
  std::shared_ptr<grpc::ServerCredentials> credentials();
  // Null where no token is asked for.
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
  // Destroyed first: their threads use what stands above.
  std::unique_ptr<FileWatch> tls_watch_;
  std::unique_ptr<FileWatch> token_watch_;
};

}  // namespace lectern
