#include "tests/testing/certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <utility>

namespace lectern::test {
namespace {

struct Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Certificate = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;

template <typename Write>
std::string Pem(const Write& write) {
  BIO* bio = BIO_new(BIO_s_mem());
  if (write(bio) != 1) std::abort();
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

std::string ToPem(X509* certificate) {
  return Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

std::string ToPem(EVP_PKEY* key) {
  return Pem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

void AddExtension(X509* certificate, int nid, const std::string& value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
  if (extension == nullptr) std::abort();
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Without a signature.
Certificate NewCertificate(const CertificateOptions& options, EVP_PKEY* key) {
  static long serial = 1;
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), absl::ToInt64Seconds(options.begins));
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), absl::ToInt64Seconds(options.ends));
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1,
                             0);
  return certificate;
}

Certificate NewAuthority(const std::string& name, absl::Duration ends, EVP_PKEY* key) {
  Certificate certificate = NewCertificate({.name = name, .ends = ends}, key);
  AddExtension(certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
  return certificate;
}

}  // namespace

struct CertificateAuthority::Impl {
  Key key{EVP_EC_gen("P-256")};
  Certificate certificate;
  std::string pem;
  std::string above;  // PEM of the authorities over this one but the root, itself first

  void Sign(X509* other) const {
    X509_set_issuer_name(other, X509_get_subject_name(certificate.get()));
    if (X509_sign(other, key.get(), EVP_sha256()) == 0) std::abort();
  }
};

CertificateAuthority::CertificateAuthority(const std::string& name, absl::Duration ends)
    : impl_(std::make_unique<Impl>()) {
  impl_->certificate = NewAuthority(name, ends, impl_->key.get());
  impl_->Sign(impl_->certificate.get());
  impl_->pem = ToPem(impl_->certificate.get());
}

CertificateAuthority::CertificateAuthority(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CertificateAuthority::~CertificateAuthority() = default;

const std::string& CertificateAuthority::pem() const { return impl_->pem; }

IssuedCertificate CertificateAuthority::Issue(const CertificateOptions& options) const {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = NewCertificate(options, key.get());
  const bool address = options.host.find_first_not_of("0123456789.") == std::string::npos;
  AddExtension(certificate.get(), NID_subject_alt_name, (address ? "IP:" : "DNS:") + options.host);
  AddExtension(certificate.get(), NID_ext_key_usage,
               options.for_server ? "serverAuth" : "clientAuth");
  impl_->Sign(certificate.get());
  return {.chain = ToPem(certificate.get()) + impl_->above, .key = ToPem(key.get())};
}

std::unique_ptr<CertificateAuthority> CertificateAuthority::Intermediate(
    const std::string& name) const {
  auto impl = std::make_unique<Impl>();
  impl->certificate = NewAuthority(name, absl::Hours(1), impl->key.get());
  impl_->Sign(impl->certificate.get());
  impl->pem = ToPem(impl->certificate.get());
  impl->above = impl->pem + impl_->above;
  return std::unique_ptr<CertificateAuthority>(new CertificateAuthority(std::move(impl)));
}

}  // namespace lectern::test
