#include "client/cli/progress.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lectern {
namespace {

constexpr uint64_t kBarWidth = 30;

std::string Bar(uint64_t done, uint64_t total) {
  const uint64_t filled = kBarWidth * std::min(done, total) / total;
  return absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'), "]");
}

}  // namespace

std::string WithCommas(uint64_t number) {
  std::string digits = absl::StrCat(number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

void ProgressLine::Show(std::string_view stage, uint64_t done, uint64_t total,
                        std::string_view unit) {
  if (terminal_ == nullptr) return;
  const std::string counts = total == 0 ? absl::StrCat(WithCommas(done), " ", std::string(unit))
                                        : absl::StrCat(WithCommas(done), " of ", WithCommas(total),
                                                       " ", std::string(unit));
  absl::FPrintF(terminal_, "\r\x1b[K%s %s %s", stage, total == 0 ? "" : Bar(done, total), counts);
  std::fflush(terminal_);
  drawn_ = true;
}

void ProgressLine::Clear() {
  if (drawn_) {
    absl::FPrintF(terminal_, "\r\x1b[K");
    std::fflush(terminal_);
  }
  drawn_ = false;
}

}  // namespace lectern
