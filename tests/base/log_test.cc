// Log lines: both formats, bounds, hostile values and repeated errors.
#include "base/log.h"

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
  ~LogTest() override { InitLogging(/*json=*/true, LogLevel::kInfo); }

  template <typename F>
  static std::string Logged(F&& log) {
    testing::internal::CaptureStdout();
    log();
    return testing::internal::GetCapturedStdout();
  }
  static std::string Line(std::string_view message, std::vector<LogField> fields) {
    return FormatLogLine(/*json=*/true, absl::FromUnixMicros(1'700'000'000'000'007),
                         LogLevel::kInfo, message, fields);
  }
};

TEST_F(LogTest, JsonLinesHoldTimeSeverityMessageAndFields) {
  const std::string line = Logged([] {
    LogWarning("disk \"slow\"", {{"path", "a\\b\n\x01"},
                                 {"n", 7},
                                 {"bytes", uint64_t{1} << 63},
                                 {"ms", 1.5},
                                 {"pinned", true},
                                 {"e", "\xc3\xa9"}});
  });
  EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
  const json object = json::parse(line);
  EXPECT_EQ(object["severity"], "warning");
  EXPECT_EQ(object["msg"], "disk \"slow\"");
  EXPECT_EQ(object["path"], "a\\b\n\x01");
  EXPECT_EQ(object["n"], 7);
  EXPECT_EQ(object["bytes"], uint64_t{1} << 63);
  EXPECT_EQ(object["ms"], 1.5);
  EXPECT_EQ(object["pinned"], true);
  EXPECT_EQ(object["e"], "\xc3\xa9");
  EXPECT_EQ(json::parse(Line("m", {}))["ts"], "2023-11-14T22:13:20.000007Z");
}

// Whatever a client sends, a line stays one line and one JSON object with that value.
TEST_F(LogTest, ValuesCannotForgeLines) {
  for (const std::string& hostile :
       {std::string("a\n{\"severity\":\"error\"}"), std::string("\",\"severity\":\"error"),
        std::string("\r\x1b[2J\x7f\0end", 11), std::string("\\u000a\\n"),
        std::string("\xc2\x9b"
                    "31m")}) {
    const std::string line = Line("m", {{"client", hostile}});
    EXPECT_EQ(line.find('\n'), line.size() - 1);
    for (size_t i = 0; i + 1 < line.size(); ++i) {
      const auto c = static_cast<unsigned char>(line[i]);
      EXPECT_TRUE(c >= 0x20 && c != 0x7f) << line;
      EXPECT_FALSE(c == 0xc2 && static_cast<unsigned char>(line[i + 1]) < 0xa0) << line;
    }
    const json object = json::parse(line);
    EXPECT_EQ(object.size(), 4u);
    EXPECT_EQ(object["severity"], "info");
    EXPECT_EQ(object["client"], hostile);
  }
}

TEST_F(LogTest, IllFormedValuesStillMakeValidJson) {
  const json object = json::parse(Line("m\xff", {{"k", "\xf0\x9f\x98"}, {"nan", 0.0 / 0.0}}));
  EXPECT_EQ(object["msg"], "m\xef\xbf\xbd");
  EXPECT_EQ(object["k"], "\xef\xbf\xbd");
  EXPECT_TRUE(object["nan"].is_null());
}

TEST_F(LogTest, LinesAreBoundedAndSaySo) {
  std::vector<LogField> fields = {{"first", 1}};
  for (int i = 0; i < 20; ++i) fields.push_back({"k", std::string(5000, '\x01')});
  const std::string line = Line(std::string(100'000, 'm'), fields);
  EXPECT_LE(line.size(), kMaxLogLineBytes);
  const json object = json::parse(line);
  EXPECT_EQ(object["first"], 1);
  EXPECT_EQ(object["truncated"], true);
  EXPECT_LE(object["msg"].get<std::string>().size(), kMaxLogValueBytes);
  // Long values are cut between characters.
  const json cut = json::parse(Line("m", {{"k", "a" + [] {
                                             std::string text;
                                             for (int i = 0; i < 1000; ++i) text += "\xc3\x84";
                                             return text;
                                           }()}}));
  EXPECT_EQ(cut["k"].get<std::string>().size(), kMaxLogValueBytes - 1);
  EXPECT_FALSE(cut.contains("truncated"));
}

TEST_F(LogTest, TextLinesQuoteWhatNeedsIt) {
  InitLogging(/*json=*/false, LogLevel::kInfo);
  const std::string line = Logged([] {
    LogError("has failed",
             {{"a", "plain"}, {"b", "two words"}, {"c", ""}, {"d", "x\ny"}, {"n", 3}});
  });
  EXPECT_THAT(line,
              HasSubstr(" error has failed a=plain b=\"two words\" c=\"\" d=\"x\\ny\" n=3\n"));
}

TEST_F(LogTest, LevelsBelowTheChosenOneAreSilent) {
  InitLogging(/*json=*/false, LogLevel::kWarning);
  EXPECT_EQ(Logged([] { LogInfo("quiet"); }), "");
  EXPECT_THAT(Logged([] { LogWarning("loud"); }), HasSubstr("loud"));
}

TEST_F(LogTest, LinesOfThreadsDoNotMix) {
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

TEST_F(LogTest, RepeatedErrorsAreHeldBack) {
  const std::string text = Logged([] {
    for (int i = 0; i < 100; ++i) LogError("the same failure", {{"i", i}});
    LogError("another failure");
  });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6);
  EXPECT_THAT(text, HasSubstr("another failure"));
}

TEST(RepeatLimiterTest, ReportsHowManyItHeldBack) {
  RepeatLimiter limiter;
  const absl::Time start = absl::FromUnixSeconds(1000);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(limiter.Admit("a", start), 0);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(limiter.Admit("a", start + absl::Seconds(9)), -1);
  EXPECT_EQ(limiter.Admit("b", start), 0);
  EXPECT_EQ(limiter.Admit("a", start + absl::Seconds(10)), 7);
  EXPECT_EQ(limiter.Admit("a", start + absl::Seconds(10)), 0);
  // Many different messages do not pile up, and a clock set back does not silence for long.
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(limiter.Admit("message " + std::to_string(i), start), 0);
  }
  for (int i = 0; i < 5; ++i) EXPECT_EQ(limiter.Admit("c", start), 0);
  EXPECT_EQ(limiter.Admit("c", start - absl::Hours(1)), 0);
}

}  // namespace
}  // namespace lectern
