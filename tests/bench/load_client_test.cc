// The load client against a server that answers at once: every call is made, told apart and
// counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "bench/serving/driver.h"
#include "tests/client/scripted_document_qa.h"

namespace lectern::bench {
namespace {

LoadOptions OptionsFor(const ScriptedDocumentQa& server) {
  LoadOptions options;
  options.server = server.target();
  options.seconds = 0.5;
  options.deadline = 20;
  options.documents = 2;
  options.document_tokens = 100;
  return options;
}

nlohmann::json RunPhase(const LoadOptions& options) {
  Driver driver(options, "/bin/true");
  EXPECT_TRUE(driver.Prepare().ok());
  return driver.Run();
}

uint64_t Sum(const nlohmann::json& outcomes) {
  uint64_t sum = 0;
  for (const auto& [name, count] : outcomes.items()) sum += count.get<uint64_t>();
  return sum;
}

TEST(LoadClientTest, AnOpenLoopCountsEveryCall) {
  ScriptedDocumentQa server;
  LoadOptions options = OptionsFor(server);
  options.rate = 100;
  options.uploads = 0.2;
  options.slow_readers = 0.1;
  const nlohmann::json report = RunPhase(options);
  // How many there are depends on the machine; the first ones the seed has drawn.
  EXPECT_GT(report["sent"], 0);
  EXPECT_EQ(Sum(report["outcomes"]), report["sent"]);
  for (const auto& [outcome, count] : report["outcomes"].items()) {
    EXPECT_THAT(outcome, testing::EndsWith("_ok"));
  }
  EXPECT_TRUE(report["failures"].empty()) << report["failures"];
}

TEST(LoadClientTest, AClosedLoopGoesOnUntilItsEnd) {
  ScriptedDocumentQa server;
  LoadOptions options = OptionsFor(server);
  options.clients = 3;
  options.probe = 0.01;
  const nlohmann::json report = RunPhase(options);
  EXPECT_GE(report["sent"], 3);
  EXPECT_EQ(Sum(report["outcomes"]), report["sent"]);
  EXPECT_EQ(report["outcomes"].value("ask_ok", 0u), report["sent"]);
  ASSERT_FALSE(report["probes"].empty());
  EXPECT_GE(report["probes"][0][1], 0);
}

TEST(LoadClientTest, RefusalsAreNoFailuresAndNoGoodput) {
  ScriptedDocumentQa server;
  LoadOptions options = OptionsFor(server);
  options.rate = 50;
  server.before = [](int number, const auto&) {
    return number % 2 == 0 ? ErrorWith(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_REQUESTS", 10)
                           : ErrorWith(grpc::StatusCode::INTERNAL, "BROKEN");
  };
  const nlohmann::json report = RunPhase(options);
  const uint64_t broken = report["outcomes"].value("ask_INTERNAL", 0u);
  const uint64_t refused = report["outcomes"].value("ask_refused", 0u);
  EXPECT_GT(broken, 0);
  EXPECT_EQ(broken + refused, report["sent"]);
  EXPECT_LE(refused, broken);
  EXPECT_EQ(report["failures"].size(), 1u);
  EXPECT_EQ(report["goodput"], 0);
  EXPECT_LE(report["refusal_ms"]["count"], refused);
}

TEST(WorkloadTest, TheSeedDecidesAndSharesAreKept) {
  LoadOptions options;
  options.rate = 10;
  options.uploads = 0.25;
  options.crashes = 0.25;
  Workload one(options), same(options);
  std::map<Kind, int> kinds;
  double seconds = 0;
  for (int i = 0; i < 4000; ++i) {
    const Kind kind = one.NextKind();
    EXPECT_EQ(kind, same.NextKind());
    ++kinds[kind];
    const double gap = one.NextGap();
    EXPECT_EQ(gap, same.NextGap());
    seconds += gap;
  }
  // Five standard deviations of a binomial, and of a sum of exponential gaps.
  EXPECT_NEAR(kinds[Kind::kUpload], 1000, 137);
  EXPECT_NEAR(kinds[Kind::kCrash], 1000, 137);
  EXPECT_EQ(kinds[Kind::kCancel] + kinds[Kind::kSlow], 0);
  EXPECT_NEAR(seconds, 400, 32);
}

TEST(WorkloadTest, UploadsAreNeverTheSameText) {
  Workload workload(LoadOptions{});
  std::set<std::string> texts;
  for (int i = 0; i < 100; ++i) texts.insert(workload.NextUpload());
  EXPECT_EQ(texts.size(), 100u);
  EXPECT_EQ(DocumentText(7, 200), DocumentText(7, 200));
}

TEST(LoadOptionsTest, WrongOptionsAreRefused) {
  EXPECT_TRUE(ParseLoadOptions({"--server=h:1", "--rate=2.5"}).ok());
  EXPECT_TRUE(ParseLoadOptions({"--server=h:1", "--crash_with=doc"}).ok());
  EXPECT_FALSE(ParseLoadOptions({"--server=h:1"}).ok());
  EXPECT_FALSE(ParseLoadOptions({"--rate=1"}).ok());
  EXPECT_FALSE(ParseLoadOptions({"--server=h:1", "--rate=-1"}).ok());
  EXPECT_FALSE(ParseLoadOptions({"--server=h:1", "--rate"}).ok());
  EXPECT_FALSE(ParseLoadOptions({"--server=h:1", "--speed=1"}).ok());
}

}  // namespace
}  // namespace lectern::bench
