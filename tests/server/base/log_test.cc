// The two forms of log lines.
#include "server/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace lectern {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class LogTest : public testing::Test {
 protected:
  ~LogTest() override { InitLogging(/*json=*/false, LogLevel::kInfo); }

  template <typename F>
  static std::string Logged(F&& log) {
    testing::internal::CaptureStderr();
    log();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(LogTest, JsonLinesHoldTimeSeverityMessageAndFields) {
  InitLogging(/*json=*/true, LogLevel::kInfo);
  const std::string line = Logged([] {
    LogWarning("disk \"slow\"", {{"path", "a\\b\n\x01"}, {"n", "7"}, {"e", "\xc3\xa9"}});
  });
  EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
  const json object = json::parse(line);
  EXPECT_EQ(object["severity"], "warning");
  EXPECT_EQ(object["msg"], "disk \"slow\"");
  EXPECT_EQ(object["path"], "a\\b\n\x01");
  EXPECT_EQ(object["n"], "7");
  EXPECT_EQ(object["e"], "\xc3\xa9");
  EXPECT_THAT(object["ts"].get<std::string>(),
              testing::MatchesRegex("....-..-..T..:..:..[.]......Z"));
}

TEST_F(LogTest, IllFormedValuesStillMakeValidJson) {
  InitLogging(/*json=*/true, LogLevel::kInfo);
  const std::string line = Logged([] { LogInfo("m\xff", {{"k", "\xf0\x9f\x98"}}); });
  EXPECT_EQ(json::parse(line)["msg"], "m\xef\xbf\xbd");
}

TEST_F(LogTest, TextLinesQuoteWhatNeedsIt) {
  InitLogging(/*json=*/false, LogLevel::kInfo);
  const std::string line = Logged([] {
    LogError("failed", {{"a", "plain"}, {"b", "two words"}, {"c", ""}, {"d", "x\ny"}});
  });
  EXPECT_THAT(line, HasSubstr(" error failed a=plain b=\"two words\" c=\"\" d=\"x\\ny\"\n"));
}

TEST_F(LogTest, LevelsBelowTheChosenOneAreSilent) {
  InitLogging(/*json=*/false, LogLevel::kWarning);
  EXPECT_EQ(Logged([] { LogInfo("quiet"); }), "");
  EXPECT_THAT(Logged([] { LogWarning("loud"); }), HasSubstr("loud"));
}

TEST_F(LogTest, LinesOfThreadsDoNotMix) {
  InitLogging(/*json=*/true, LogLevel::kInfo);
  const std::string text = Logged([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 50; ++i) LogInfo("line", {{"value", std::string(200, 'x')}});
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::istringstream lines(text);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_EQ(json::parse(line)["value"].get<std::string>().size(), 200u);
  }
  EXPECT_EQ(count, 200);
}

}  // namespace
}  // namespace lectern
