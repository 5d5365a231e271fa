#include "lectern/connection.h"

#include "client/cpp/channels.h"

namespace lectern {

absl::Status CheckConnection(const std::string& target, const Connection& connection) {
  if (connection.certificate.empty() != connection.key.empty()) {
    return absl::InvalidArgumentError(
        "a client certificate needs its key, and a key its certificate");
  }
  if (connection.authorities.empty()) {
    if (connection.certificate.empty() && connection.server_name.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("TLS needs the certificates of the authorities to trust");
  }
  if (connection.server_name.empty() && HostOfTarget(target).empty()) {
    return absl::InvalidArgumentError(
        "TLS to several addresses needs the name in the certificates of all the servers");
  }
  return absl::OkStatus();
}

}  // namespace lectern
