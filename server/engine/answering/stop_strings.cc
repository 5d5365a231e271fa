#include "server/engine/answering/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace lectern {

std::string StopStrings::Append(std::string_view text) {
  if (stopped()) return "";
  held_ += text;
  // Cut at the stop string that ends first, the longer of two, so that the cut does not depend on
  // the pieces in which the text arrives.
  size_t first = std::string::npos;
  size_t first_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end < first_end || (end == first_end && at < first)) {
      first = at;
      first_end = end;
      found_ = stop;
    }
  }
  if (first != std::string::npos) {
    std::string shown = held_.substr(0, first);
    held_.clear();
    return shown;
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  size_t show = held_.size() - keep;
  while (!IsUtf8Boundary(held_, show)) --show;  // a stop string may begin inside a character
  std::string shown = held_.substr(0, show);
  held_.erase(0, show);
  return shown;
}

std::string StopStrings::Finish() { return stopped() ? "" : std::exchange(held_, ""); }

}  // namespace lectern
