// How a client connects: plain text, TLS, or TLS with a client certificate (mTLS).
#pragma once

#include <string>

#include "absl/status/status.h"

namespace lectern {

// All fields hold PEM texts, not file names. Without `authorities` the connection is plain text.
struct Connection {
  std::string authorities;  // certificates of the authorities that issued the server's certificate
  std::string
      certificate;  // the client's certificate, for servers that require one, with its `key`
  std::string key;
  std::string server_name;  // the name in the server's certificate; empty: the host of the target
};

// INVALID_ARGUMENT for settings with which no call can succeed: a certificate without its key, a
// client certificate without authorities, or TLS to a list of addresses without a server_name.
absl::Status CheckConnection(const std::string& target, const Connection& connection);

}  // namespace lectern
