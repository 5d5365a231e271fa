// Bearer tokens: the tenant of a call, and valid and invalid token files.
#include "server/rpc/call/access_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_details.h"
#include "base/hashing/sha256.h"

namespace lectern {
namespace {

using testing::HasSubstr;

std::string Entry(const std::string& tenant, const std::string& token) {
  return R"({"tenant": ")" + tenant + R"(", "sha256": ")" + Sha256Hex(token) + "\"}";
}

std::string File(const std::string& entries) { return R"({"tokens": [)" + entries + "]}"; }

std::string ReasonOf(const absl::Status& status) {
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  return GetErrorDetails(status).reason;
}

TEST(AccessTokensTest, KnowsTheTenantOfEachToken) {
  AccessTokens tokens;
  ASSERT_TRUE(
      tokens.Load(File(Entry("a", "one") + "," + Entry("b", "two") + "," + Entry("a", "three")))
          .ok());
  EXPECT_EQ(tokens.TenantOf("Bearer one").value_or(""), "a");
  EXPECT_EQ(tokens.TenantOf("bearer two").value_or(""), "b");
  EXPECT_EQ(tokens.TenantOf("Bearer three").value_or(""), "a");
}

TEST(AccessTokensTest, RefusesEverythingElse) {
  AccessTokens tokens;
  EXPECT_EQ(ReasonOf(tokens.TenantOf("Bearer one").status()), "TOKEN_UNKNOWN") << "nothing loaded";
  const std::string longest(1024, 'x');
  ASSERT_TRUE(tokens
                  .Load(File(Entry("a", "one") + "," + Entry("b", longest) + "," +
                             Entry("c", longest + "x")))
                  .ok());
  for (const char* missing : {"", "one", "Bearer", "Bearer ", "Basic one", "Bearerone"}) {
    EXPECT_EQ(ReasonOf(tokens.TenantOf(missing).status()), "TOKEN_MISSING") << missing;
  }
  for (const std::string token : {"two", "One", "one ", " one", "on", "onee"}) {
    EXPECT_EQ(ReasonOf(tokens.TenantOf("Bearer " + token).status()), "TOKEN_UNKNOWN") << token;
  }
  EXPECT_TRUE(tokens.TenantOf("Bearer " + longest).ok());
  EXPECT_EQ(ReasonOf(tokens.TenantOf("Bearer " + longest + "x").status()), "TOKEN_UNKNOWN");
  EXPECT_EQ(ReasonOf(tokens.TenantOf("Bearer " + Sha256Hex("one")).status()), "TOKEN_UNKNOWN")
      << "a digest is no token";
}

TEST(AccessTokensTest, ABadFileChangesNothingAndTheErrorNamesThePlace) {
  AccessTokens tokens;
  ASSERT_TRUE(tokens.Load(File(Entry("a", "one"))).ok());
  const std::string upper = R"({"tenant": "a", "sha256": ")" + std::string(64, 'A') + "\"}";
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "must be"},
      {"[]", "must be"},
      {R"({"tokens": [], "more": 1})", "must be"},
      {File(""), "0 entries"},
      {File("7"), "tokens[0]: must be"},
      {File(Entry("a", "x") + "," + Entry("", "y")), "tokens[1].tenant"},
      {File(Entry("a b", "x")), "tokens[0].tenant"},
      {File(R"({"tenant": "a", "sha256": "abc"})"), "tokens[0].sha256: must be 64"},
      {File(R"({"tenant": "a", "sha256": 7})"), "tokens[0].sha256: must be 64"},
      {File(upper), "tokens[0].sha256: must be 64"},
      {File(R"({"tenant": "a", "token": "secret"})"), "tokens[0].sha256"},
      {File(Entry("a", "x") + "," + Entry("b", "x")), "tokens[1].sha256: is there twice"}};
  for (const auto& [text, error] : bad) {
    const absl::Status status = tokens.Load(text);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
  }
  EXPECT_EQ(tokens.TenantOf("Bearer one").value_or(""), "a");
  ASSERT_TRUE(tokens.Load(File(Entry("b", "two"))).ok());
  EXPECT_EQ(ReasonOf(tokens.TenantOf("Bearer one").status()), "TOKEN_UNKNOWN") << "withdrawn";
  EXPECT_EQ(tokens.TenantOf("Bearer two").value_or(""), "b");
}

}  // namespace
}  // namespace lectern
