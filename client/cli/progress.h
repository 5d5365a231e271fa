// Progress of a long call on stderr: a bar on a terminal, otherwise one line for each stage.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace lectern {

// Not thread-safe. Erases its bar when destroyed or cleared.
class ProgressLine {
 public:
  // Writes to `out`, which outlives this object; null writes nothing.
  ProgressLine(std::FILE* out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  ~ProgressLine() { Clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // E.g. Show("reading", 512, 3891, "tokens"). A total of 0 is not known yet.
  void Show(std::string_view stage, uint64_t done, uint64_t total, std::string_view unit);
  void Clear();

 private:
  std::FILE* const out_;
  const bool is_terminal_;
  std::string stage_;
  bool drawn_ = false;
};

// "12,345"
std::string WithCommas(uint64_t number);

}  // namespace lectern
