#include "server/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lectern {
namespace {

bool g_json = false;

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

const char* Name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto created = std::make_shared<spdlog::logger>(
        "lectern", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    created->set_pattern("%v");
    created->set_level(spdlog::level::info);
    created->flush_on(spdlog::level::debug);
    return created;
  }();
  return *logger;
}

// JSON string escapes, also used for text values: no control character reaches the terminal.
std::string Quoted(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void InitLogging(bool json, LogLevel level) {
  g_json = json;
  Logger().set_level(ToSpdlog(level));
}

void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  if (!Logger().should_log(ToSpdlog(level))) return;
  const std::string now =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone());
  std::string line;
  if (g_json) {
    line =
        "{\"ts\":\"" + now + "\",\"severity\":\"" + Name(level) + "\",\"msg\":" + Quoted(message);
    for (const auto& [key, value] : fields) line += "," + Quoted(key) + ":" + Quoted(value);
    line += "}";
  } else {
    line = now + " " + Name(level) + " " + std::string(message);
    for (const auto& [key, value] : fields) {
      const bool plain = !value.empty() && value.find_first_of(" \"\\=\n\t\r") == std::string::npos;
      const std::string quoted = Quoted(value);
      // Quoted() only adds its two quotes when nothing needed escaping.
      const bool clean = plain && quoted.size() == value.size() + 2;
      line += " " + std::string(key) + "=" + (clean ? value : quoted);
    }
  }
  Logger().log(ToSpdlog(level), "{}", line);
}

}  // namespace lectern
