// Memory of this process and of the machine, from /proc. All figures are bytes.
#pragma once

#include <cstdint>
#include <string>

namespace lectern::bench {

// The growth of the largest resident set since construction. Where /proc/self/clear_refs cannot be
// written, the peak cannot be reset, and an earlier peak counts as well; MeasuredBy() says which of
// the two applies.
class PeakMemory {
 public:
  PeakMemory();
  int64_t Bytes() const;
  std::string MeasuredBy() const;

 private:
  bool reset_;
  int64_t start_;
};

// The memory that can still be allocated without swapping (MemAvailable).
int64_t AvailableBytes();

// Makes allocations fail that would grow the process by more than `bytes` from now on (RLIMIT_AS).
void LimitFurtherMemory(int64_t bytes);

}  // namespace lectern::bench
