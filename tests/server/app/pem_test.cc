// Certificates and keys that a server can use, and the ways in which a pair can be wrong.
#include "server/app/pem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/testing/certificates.h"

namespace lectern {
namespace {

using test::CertificateAuthority;
using test::IssuedCertificate;
using testing::HasSubstr;

std::string ErrorOf(const absl::Status& status) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

std::string PairError(std::string_view chain, std::string_view key) {
  return ErrorOf(CheckKeyPair(chain, key, absl::Now()).status());
}

class PemTest : public testing::Test {
 protected:
  const CertificateAuthority authority_{"an authority"};
  const IssuedCertificate good_ = authority_.Issue({});
};

TEST_F(PemTest, ReportsWhenAGoodPairExpires) {
  const auto expiry = CheckKeyPair(good_.chain, good_.key, absl::Now());
  ASSERT_TRUE(expiry.ok()) << expiry.status();
  EXPECT_LT(absl::AbsDuration(*expiry - absl::Now() - absl::Hours(1)), absl::Minutes(1));
}

TEST_F(PemTest, AcceptsAChainOnlyInOrder) {
  const auto intermediate = authority_.Intermediate("below");
  const IssuedCertificate issued = intermediate->Issue({});
  EXPECT_TRUE(CheckKeyPair(issued.chain, issued.key, absl::Now()).ok());
  EXPECT_THAT(PairError(good_.chain + intermediate->pem(), good_.key),
              HasSubstr("certificate 2 did not issue the one before it"));
}

TEST_F(PemTest, RefusesMismatchedPairs) {
  const IssuedCertificate other = authority_.Issue({});
  EXPECT_THAT(PairError(good_.chain, other.key), HasSubstr("does not belong"));
  EXPECT_THAT(PairError("", good_.key), HasSubstr("certificate file contains no certificate"));
  EXPECT_THAT(PairError("garbage", good_.key), HasSubstr("contains no certificate"));
  EXPECT_THAT(PairError(good_.key, good_.key), HasSubstr("contains no certificate"));
  EXPECT_THAT(PairError(good_.chain, ""), HasSubstr("key file contains no private key"));
  EXPECT_THAT(PairError(good_.chain, good_.chain), HasSubstr("key file contains no private key"));
  const std::string torn = good_.chain.substr(0, good_.chain.size() / 2);
  EXPECT_THAT(PairError(torn, good_.key), HasSubstr("certificate 1 is damaged or cut off"));
  EXPECT_THAT(PairError(good_.chain + torn, good_.key), HasSubstr("certificate 2 is damaged"));
}

TEST_F(PemTest, RefusesExpiredAndFutureCertificates) {
  const IssuedCertificate old = authority_.Issue({.ends = -absl::Minutes(1)});
  EXPECT_THAT(PairError(old.chain, old.key), HasSubstr("certificate 1 has expired at"));
  const IssuedCertificate early = authority_.Issue({.begins = absl::Minutes(10)});
  EXPECT_THAT(PairError(early.chain, early.key), HasSubstr("is not valid before"));
  const IssuedCertificate client = authority_.Issue({.for_server = false});
  EXPECT_THAT(PairError(client.chain, client.key), HasSubstr("not for servers"));
}

TEST_F(PemTest, NeverPromptsForAPassword) {
  const std::string encrypted =
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
      "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAAAAAAAAAAAICCAAw\n"
      "-----END ENCRYPTED PRIVATE KEY-----\n";
  EXPECT_THAT(PairError(good_.chain, encrypted), HasSubstr("without a password"));
}

TEST_F(PemTest, AtLeastOneAuthorityMustBeValid) {
  const CertificateAuthority expired("was once", -absl::Minutes(1));
  EXPECT_TRUE(CheckAuthorities(authority_.pem(), absl::Now()).ok());
  EXPECT_TRUE(CheckAuthorities(expired.pem() + authority_.pem(), absl::Now()).ok());
  EXPECT_THAT(ErrorOf(CheckAuthorities(expired.pem(), absl::Now())), HasSubstr("expired"));
  EXPECT_THAT(ErrorOf(CheckAuthorities("\x01\x02", absl::Now())), HasSubstr("no certificate"));
}

}  // namespace
}  // namespace lectern
