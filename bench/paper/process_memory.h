// Memory of this process and of the machine, as Linux tells it (/proc). All figures are bytes.
#pragma once

#include <cstdint>
#include <string>

namespace lectern::bench {

// The largest resident set since its construction, over the one at its construction. Where
// /proc/self/clear_refs cannot be written the peak cannot be reset, and what was resident at once
// before counts as well: MeasuredBy() says which of the two it is.
class PeakMemory {
 public:
  PeakMemory();
  int64_t Bytes() const;
  std::string MeasuredBy() const;

 private:
  bool reset_;
  int64_t start_;
};

// What can still be allocated without swapping (MemAvailable).
int64_t AvailableBytes();

// From now on allocations that take the process more than `bytes` further fail (RLIMIT_AS).
void LimitFurtherMemory(int64_t bytes);

}  // namespace lectern::bench
