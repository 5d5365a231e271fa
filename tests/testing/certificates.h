// Certificates made while a test runs: authorities, servers and clients.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"

namespace lectern::test {

struct IssuedCertificate {
  std::string chain;  // PEM, its own certificate first
  std::string key;    // PEM
};

struct CertificateOptions {
  std::string name = "server";     // common name
  std::string host = "127.0.0.1";  // subject alternative name: an address or a DNS name
  absl::Duration begins = -absl::Hours(1);
  absl::Duration ends = absl::Hours(1);  // both from now
  bool for_server = true;                // else for clients
};

// Signs with P-256 keys. Not thread-safe.
class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name, absl::Duration ends = absl::Hours(1));
  ~CertificateAuthority();

  const std::string& pem() const;
  IssuedCertificate Issue(const CertificateOptions& options) const;
  // An authority below this one; what it issues has both in its chain.
  std::unique_ptr<CertificateAuthority> Intermediate(const std::string& name) const;

 private:
  struct Impl;
  explicit CertificateAuthority(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lectern::test
