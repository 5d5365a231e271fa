// How a client connects: in plain text, or by TLS, with or without a certificate of its own.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace lectern {

// PEM texts, not files; without `authorities` everything goes in plain text.
struct Connection {
  std::string authorities;  // whoever has issued the server's certificate
  std::string certificate;  // what is shown to servers that ask for one (mTLS), with its `key`
  std::string key;
  std::string server_name;  // what the server's certificate says; empty: the host of the target
};

// The host that the certificate of a server at `target` has to name, or "" where a target does not
// tell: it stands for several addresses, or is a socket of this machine.
std::string HostOfTarget(const std::string& target);

// INVALID_ARGUMENT where no call can succeed: a certificate without its key, an own certificate
// without authorities, TLS to a list of addresses without a server_name.
absl::Status CheckConnection(const std::string& target, const Connection& connection);

}  // namespace lectern
