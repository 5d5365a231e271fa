#include "server/app/security.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/loopback.h"
#include "base/status_macros.h"
#include "server/app/pem.h"

namespace lectern {
namespace {

void LogReload(const char* what, const absl::Status& status) {
  if (status.ok()) {
    LogInfo(absl::StrCat(what, " reloaded"));
  } else {
    LogError(absl::StrCat(what, " refused; the previous ones stay in force"),
             {{"error", std::string(status.message())}});
  }
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Security>> Security::Create(const Options& options,
                                                           ServerMetrics* metrics) {
  std::unique_ptr<Security> security(new Security(options, metrics));
  if (!options.security.tls_cert.empty()) LECTERN_RETURN_IF_ERROR(security->StartTls());
  if (!options.security.auth_tokens.empty()) LECTERN_RETURN_IF_ERROR(security->StartTokens());
  if (options.security.tls_cert.empty() && !IsLoopback(options.listen)) {
    LogWarning(
        "serving plain text on a non-loopback address: enable TLS or put a TLS proxy in front",
        {{"listen", options.listen}});
  }
  return security;
}

std::shared_ptr<grpc::ServerCredentials> Security::credentials() {
  return tls_watch_ != nullptr ? tls_.New() : grpc::InsecureServerCredentials();
}

absl::Status Security::StartTls() {
  std::vector<std::string> paths = {options_.security.tls_cert, options_.security.tls_key};
  if (!options_.security.tls_client_ca.empty()) paths.push_back(options_.security.tls_client_ca);
  const auto load = [this](const std::vector<std::string>& contents) -> absl::Status {
    const auto expiry = CheckKeyPair(contents[0], contents[1], absl::Now());
    LECTERN_RETURN_IF_ERROR(
        InFile(absl::StrCat(options_.security.tls_cert, " and ", options_.security.tls_key),
               expiry.status()));
    const bool mutual = contents.size() > 2;
    if (mutual) {
      LECTERN_RETURN_IF_ERROR(
          InFile(options_.security.tls_client_ca, CheckAuthorities(contents[2], absl::Now())));
    }
    tls_.Set({.chain = contents[0],
              .key = contents[1],
              .client_authorities = mutual ? contents[2] : std::string()});
    metrics_->SetCertificateExpiry(*expiry);
    LogInfo("certificate read", {{"expires", absl::FormatTime(*expiry)}, {"mutual", mutual}});
    return absl::OkStatus();
  };
  LECTERN_ASSIGN_OR_RETURN(tls_watch_, FileWatch::Start({.paths = std::move(paths),
                                                         .load = load,
                                                         .reloaded = [this](const auto& status) {
                                                           metrics_->TlsReloaded(status.ok());
                                                           LogReload("certificates", status);
                                                         }}));
  return absl::OkStatus();
}

absl::Status Security::StartTokens() {
  const auto load = [this](const std::vector<std::string>& contents) {
    return InFile(options_.security.auth_tokens, tokens_.Load(contents[0]));
  };
  LECTERN_ASSIGN_OR_RETURN(token_watch_, FileWatch::Start({.paths = {options_.security.auth_tokens},
                                                           .load = load,
                                                           .reloaded = [this](const auto& status) {
                                                             metrics_->TokensReloaded(status.ok());
                                                             LogReload("tokens", status);
                                                           }}));
  return absl::OkStatus();
}

}  // namespace lectern
