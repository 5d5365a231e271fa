// Structured logs on stdout: one line of at most 8 KiB per event, one JSON object or `key=value`
// text. The log of the process is process-wide, as its standard output is.
//
//   LogInfo("model loaded", {{"model", name}, {"seconds", 1.25}});
//
// Nothing a client sends can forge a line: control characters are escaped, ill-formed UTF-8 is
// replaced, long values are cut. No document, question or answer text is logged, except for
// questions and answers with --log_prompts.
#pragma once

#include <concepts>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/time/time.h"

namespace lectern {

inline constexpr size_t kMaxLogLineBytes = 8192;   // the line's end included
inline constexpr size_t kMaxLogValueBytes = 1024;  // of a text, before escaping

// Text, number or boolean; JSON keeps the type.
class LogValue {
 public:
  LogValue(std::string text) : value_(std::move(text)) {}
  LogValue(std::string_view text) : value_(std::string(text)) {}
  LogValue(const char* text) : value_(std::string(text)) {}
  LogValue(bool truth) : value_(truth) {}
  LogValue(double number) : value_(number) {}
  template <std::unsigned_integral T>
  LogValue(T number) : value_(static_cast<uint64_t>(number)) {}
  template <std::signed_integral T>
  LogValue(T number) : value_(static_cast<int64_t>(number)) {}

  const std::string* text() const { return std::get_if<std::string>(&value_); }
  // A number or boolean as JSON writes it.
  std::string Plain() const;

 private:
  std::variant<std::string, bool, double, uint64_t, int64_t> value_;
};

struct LogField {
  std::string_view key;
  LogValue value;
};

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Call once at start, before other threads log. Default: JSON, info.
void InitLogging(bool json, LogLevel level);

// Thread-safe; one write for each line. Beyond 5 in 10 s, warnings and errors with the same message
// are suppressed; the next one that is logged has their number in the field `suppressed`.
void Log(LogLevel level, std::string_view message, std::span<const LogField> fields);
inline void Log(LogLevel level, std::string_view message,
                std::initializer_list<LogField> fields = {}) {
  Log(level, message, std::span<const LogField>(fields.begin(), fields.size()));
}
inline void LogInfo(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, message, fields);
}
inline void LogWarning(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, message, fields);
}
inline void LogError(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, message, fields);
}

// One line, its end included.
std::string FormatLogLine(bool json, absl::Time time, LogLevel level, std::string_view message,
                          std::span<const LogField> fields);

// Decides which repeated messages may be logged. Remembers the 64 newest messages. Not thread-safe.
class RepeatLimiter {
 public:
  // The number suppressed since the last one that was logged, or -1 to suppress this one.
  int64_t Admit(std::string_view message, absl::Time now);

 private:
  struct Entry {
    std::string message;
    absl::Time window_start;
    int lines = 0;
    int64_t suppressed = 0;
  };
  std::deque<Entry> entries_;
};

}  // namespace lectern
