// Checks of connection settings, and the host name that certificates must have.
#include "lectern/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cpp/channels.h"

namespace lectern {
namespace {

using testing::HasSubstr;

TEST(ConnectionTest, TheHostOfATarget) {
  EXPECT_EQ(HostOfTarget("lectern.example:8001"), "lectern.example");
  EXPECT_EQ(HostOfTarget("127.0.0.1:8001"), "127.0.0.1");
  EXPECT_EQ(HostOfTarget("[::1]:8001"), "::1");
  EXPECT_EQ(HostOfTarget("dns:lectern.example:8001"), "lectern.example");
  EXPECT_EQ(HostOfTarget("dns:///lectern-headless:8001"), "lectern-headless");
  EXPECT_EQ(HostOfTarget("dns://10.0.0.53/lectern.example:8001"), "lectern.example");
  EXPECT_EQ(HostOfTarget("ipv4:10.0.0.1:8001"), "10.0.0.1");
  EXPECT_EQ(HostOfTarget("ipv6:[::1]:8001"), "::1");
  EXPECT_EQ(HostOfTarget("127.0.0.1:1,127.0.0.1:2"), "");
  EXPECT_EQ(HostOfTarget("unix:///run/lectern"), "");
}

TEST(ConnectionTest, RefusesSettingsThatCannotWork) {
  const auto error = [](const char* target, const Connection& connection) {
    return std::string(CheckConnection(target, connection).message());
  };
  EXPECT_EQ(error("a:1", {}), "");
  EXPECT_EQ(error("a:1,b:2", {}), "");
  EXPECT_EQ(error("a:1", {.authorities = "ca"}), "");
  EXPECT_EQ(error("a:1", {.authorities = "ca", .certificate = "c", .key = "k"}), "");
  EXPECT_EQ(error("a:1,b:2", {.authorities = "ca", .server_name = "lectern"}), "");
  EXPECT_THAT(error("a:1", {.authorities = "ca", .certificate = "c"}), HasSubstr("its key"));
  EXPECT_THAT(error("a:1", {.certificate = "c", .key = "k"}), HasSubstr("authorities"));
  EXPECT_THAT(error("a:1", {.server_name = "lectern"}), HasSubstr("authorities"));
  EXPECT_THAT(error("1.1.1.1:1,1.1.1.2:1", {.authorities = "ca"}), HasSubstr("the name"));
}

}  // namespace
}  // namespace lectern
