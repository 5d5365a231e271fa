#include "base/log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/utf8.h"

namespace lectern {
namespace {

constexpr int kLinesPerWindow = 5;
constexpr absl::Duration kWindow = absl::Seconds(10);
constexpr size_t kRememberedMessages = 64;
constexpr std::string_view kTruncated = "truncated";

std::atomic<bool> g_json{true};
std::atomic<LogLevel> g_level{LogLevel::kInfo};

// Lines of threads do not mix, also where a pipe takes them in parts.
struct Output {
  Mutex mutex;
  RepeatLimiter limiter ABSL_GUARDED_BY(mutex);
};
Output& Stdout() {
  static Output* const output = new Output;  // usable until the very end of the process
  return *output;
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

// The first `limit` bytes, less where that would cut a character.
std::string_view Cut(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && !IsUtf8Boundary(text, limit)) --limit;
  return text.substr(0, limit);
}

// A JSON string. Escapes the control characters of ASCII and of Latin-1 (U+0080 to U+009F), which
// terminals obey, too.
std::string Quoted(std::string_view text) {
  const std::string valid = ReplaceInvalidUtf8(text);
  std::string out = "\"";
  for (size_t i = 0; i < valid.size(); ++i) {
    const auto c = static_cast<unsigned char>(valid[i]);
    const auto next = static_cast<unsigned char>(i + 1 < valid.size() ? valid[i + 1] : 0);
    if (c == '"' || c == '\\') {
      out += {'\\', valid[i]};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else if (c == 0xc2 && next < 0xa0) {
      absl::StrAppendFormat(&out, "\\u%04x", next);
      ++i;
    } else {
      out += valid[i];
    }
  }
  return out + "\"";
}

std::string Rendered(const LogValue& value, bool json) {
  if (value.text() == nullptr) return value.Plain();
  const std::string_view text = Cut(*value.text(), kMaxLogValueBytes);
  std::string quoted = Quoted(text);
  if (json || text.empty() || text.find_first_of(" =") != std::string_view::npos) return quoted;
  // Quotes are left out in text lines where nothing needed escaping.
  return quoted.size() == text.size() + 2 ? std::string(text) : quoted;
}

std::string WithoutQuotes(const std::string& quoted) { return quoted.substr(1, quoted.size() - 2); }

void Write(std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = write(STDOUT_FILENO, line.data(), line.size());
    if (written < 0 && errno != EINTR) return;  // there is no reader any more
    if (written > 0) line.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

std::string LogValue::Plain() const {
  if (const bool* truth = std::get_if<bool>(&value_)) return *truth ? "true" : "false";
  if (const double* number = std::get_if<double>(&value_)) {
    return std::isfinite(*number) ? absl::StrFormat("%.3f", *number) : "null";
  }
  if (const uint64_t* number = std::get_if<uint64_t>(&value_)) return absl::StrCat(*number);
  if (const int64_t* number = std::get_if<int64_t>(&value_)) return absl::StrCat(*number);
  return "";
}

std::string FormatLogLine(bool json, absl::Time time, LogLevel level, std::string_view message,
                          std::span<const LogField> fields) {
  const std::string now = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
  message = Cut(message, kMaxLogValueBytes);
  std::string line = json
                         ? absl::StrCat("{\"ts\":\"", now, "\",\"severity\":\"", Name(level),
                                        "\",\"msg\":", Quoted(message))
                         : absl::StrCat(now, " ", Name(level), " ", WithoutQuotes(Quoted(message)));
  const auto part = [&](std::string_view key, const LogValue& value) {
    const std::string name = json ? Quoted(key) : std::string(key);
    return absl::StrCat(json ? "," : " ", name, json ? ":" : "=", Rendered(value, json));
  };
  const std::string cut = part(kTruncated, true);
  const size_t limit = kMaxLogLineBytes - cut.size() - 2;  // "}" and the line's end
  for (const LogField& field : fields) {
    const std::string added = part(field.key, field.value);
    if (line.size() + added.size() > limit) {
      line += cut;
      break;
    }
    line += added;
  }
  return line + (json ? "}\n" : "\n");
}

int64_t RepeatLimiter::Admit(std::string_view message, absl::Time now) {
  auto entry = std::find_if(entries_.begin(), entries_.end(),
                            [&](const Entry& e) { return e.message == message; });
  if (entry == entries_.end()) {
    if (entries_.size() == kRememberedMessages) entries_.pop_front();
    entry = entries_.insert(entries_.end(), Entry{std::string(message), now});
  }
  if (now >= entry->window_start + kWindow || now < entry->window_start) {
    entry->window_start = now;
    entry->lines = 0;
  }
  if (entry->lines == kLinesPerWindow) {
    ++entry->suppressed;
    return -1;
  }
  ++entry->lines;
  return std::exchange(entry->suppressed, 0);
}

void InitLogging(bool json, LogLevel level) {
  g_json = json;
  g_level = level;
}

void Log(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  if (level < g_level) return;
  const absl::Time now = absl::Now();
  Output& output = Stdout();
  int64_t suppressed = 0;
  if (level >= LogLevel::kWarning) {
    MutexLock lock(&output.mutex);
    suppressed = output.limiter.Admit(message, now);
    if (suppressed < 0) return;
  }
  std::string line;
  if (suppressed > 0) {
    std::vector<LogField> all = {{"suppressed", suppressed}};
    all.insert(all.end(), fields.begin(), fields.end());
    line = FormatLogLine(g_json, now, level, message, all);
  } else {
    line = FormatLogLine(g_json, now, level, message, fields);
  }
  MutexLock lock(&output.mutex);
  Write(line);
}

}  // namespace lectern
