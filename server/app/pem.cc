#include "server/app/pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;

absl::Status Wrong(const std::string& what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(what);
}

Bio Open(std::string_view pem) {
  ERR_clear_error();
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// Keeps OpenSSL from prompting for a password on the terminal.
int NoPassword(char*, int, int, void*) { return 0; }

absl::StatusOr<std::vector<Certificate>> ParseCertificates(std::string_view pem) {
  const Bio bio = Open(pem);
  std::vector<Certificate> certificates;
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, &NoPassword, nullptr)) {
    certificates.emplace_back(next);
  }
  // OpenSSL reports the end of the file as an error, with this code.
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (!ended) {
    return Wrong(absl::StrCat("certificate ", certificates.size() + 1, " is damaged or cut off"));
  }
  if (certificates.empty()) return Wrong("contains no certificate");
  ERR_clear_error();
  return certificates;
}

absl::StatusOr<Key> ParseKey(std::string_view pem) {
  const Bio bio = Open(pem);
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, &NoPassword, nullptr));
  if (key == nullptr) return Wrong("contains no private key that can be read without a password");
  ERR_clear_error();
  return key;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

absl::Status CheckValidity(const X509* certificate, absl::Time now) {
  const absl::Time begin = TimeOf(X509_get0_notBefore(certificate));
  const absl::Time end = TimeOf(X509_get0_notAfter(certificate));
  if (now < begin) return Wrong(absl::StrCat("is not valid before ", absl::FormatTime(begin)));
  if (now >= end) return Wrong(absl::StrCat("has expired at ", absl::FormatTime(end)));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<absl::Time> CheckKeyPair(std::string_view chain, std::string_view key,
                                        absl::Time now) {
  const auto certificates = ParseCertificates(chain);
  if (!certificates.ok()) {
    return Wrong(absl::StrCat("the certificate file ", certificates.status().message()));
  }
  const auto private_key = ParseKey(key);
  if (!private_key.ok()) {
    return Wrong(absl::StrCat("the key file ", private_key.status().message()));
  }
  X509* leaf = certificates->front().get();
  if (X509_check_private_key(leaf, private_key->get()) != 1) {
    return Wrong("the key does not belong to the certificate");
  }
  if (X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, /*ca=*/0) != 1) {
    return Wrong("the certificate is not for servers");
  }
  absl::Time expiry = absl::InfiniteFuture();
  for (size_t i = 0; i < certificates->size(); ++i) {
    X509* certificate = (*certificates)[i].get();
    if (const absl::Status valid = CheckValidity(certificate, now); !valid.ok()) {
      return Wrong(absl::StrCat("certificate ", i + 1, " ", valid.message()));
    }
    if (i > 0 && X509_check_issued(certificate, (*certificates)[i - 1].get()) != X509_V_OK) {
      return Wrong(absl::StrCat("certificate ", i + 1, " did not issue the one before it"));
    }
    expiry = std::min(expiry, TimeOf(X509_get0_notAfter(certificate)));
  }
  ERR_clear_error();
  return expiry;
}

absl::Status CheckAuthorities(std::string_view pem, absl::Time now) {
  const auto certificates = ParseCertificates(pem);
  if (!certificates.ok()) {
    return Wrong(absl::StrCat("the authorities' file ", certificates.status().message()));
  }
  for (const Certificate& certificate : *certificates) {
    if (CheckValidity(certificate.get(), now).ok()) return absl::OkStatus();
  }
  return Wrong("the authorities' file contains only expired certificates");
}

}  // namespace lectern
