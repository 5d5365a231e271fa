// Structured logs on stderr: one line per event, `key=value` text or one JSON object. No document,
// question or answer text is ever logged.
//
//   LogInfo("model loaded", {{"model", name}, {"seconds", absl::StrCat(s)}});
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace lectern {

using LogField = std::pair<std::string_view, std::string>;

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Call once at start, before other threads log. Default: text, info.
void InitLogging(bool json, LogLevel level);

// Thread-safe. Control characters in values are escaped.
void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});
inline void LogInfo(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, message, fields);
}
inline void LogWarning(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, message, fields);
}
inline void LogError(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, message, fields);
}

}  // namespace lectern
