// The progress of a long call: one line on a terminal, which is updated and finally erased.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace lectern {

// Not thread-safe. Erases its bar when destroyed or cleared.
class ProgressLine {
 public:
  // `terminal` must outlive this object; null writes nothing.
  explicit ProgressLine(std::FILE* terminal) : terminal_(terminal) {}
  ~ProgressLine() { Clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Shows a stage, e.g. Show("reading", 512, 3891, "tokens"). A total of 0 means that it is
  // unknown.
  void Show(std::string_view stage, uint64_t done, uint64_t total, std::string_view unit);
  void Clear();

 private:
  std::FILE* const terminal_;
  bool drawn_ = false;
};

// Returns e.g. "12,345".
std::string WithCommas(uint64_t number);

}  // namespace lectern
