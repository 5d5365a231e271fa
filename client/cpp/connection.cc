#include "client/cpp/connection.h"

#include "absl/strings/match.h"

namespace lectern {

std::string HostOfTarget(const std::string& target) {
  if (absl::StartsWith(target, "unix")) return "";
  std::string address = target;
  for (const char* scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (!absl::StartsWith(target, scheme)) continue;
    address = target.substr(target.find(':') + 1);
    // dns://NAME_SERVER/HOST:PORT
    if (absl::StartsWith(address, "//")) address = address.substr(address.rfind('/') + 1);
  }
  if (address.find(',') != std::string::npos) return "";
  if (absl::StartsWith(address, "[")) return address.substr(1, address.find(']') - 1);
  return address.substr(0, address.rfind(':'));
}

absl::Status CheckConnection(const std::string& target, const Connection& connection) {
  if (connection.certificate.empty() != connection.key.empty()) {
    return absl::InvalidArgumentError("a certificate and its key: one needs the other");
  }
  if (connection.authorities.empty()) {
    if (connection.certificate.empty() && connection.server_name.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "TLS needs the certificates of the authorities that are believed");
  }
  if (connection.server_name.empty() && HostOfTarget(target).empty()) {
    return absl::InvalidArgumentError(
        "TLS to several addresses needs the name that all the servers' certificates have");
  }
  return absl::OkStatus();
}

}  // namespace lectern
