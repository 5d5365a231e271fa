#include "bench/paper/process_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>

namespace lectern::bench {
namespace {

// The value of "KEY:   123 kB" in a file of /proc, or 0.
int64_t Entry(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

bool ResetPeak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

}  // namespace

PeakMemory::PeakMemory() : reset_(ResetPeak()), start_(Entry("/proc/self/status", "VmRSS")) {}

int64_t PeakMemory::Bytes() const {
  return std::max<int64_t>(0, Entry("/proc/self/status", "VmHWM") - start_);
}

std::string PeakMemory::MeasuredBy() const {
  return reset_ ? "VmHWM, reset after the inputs were made, over VmRSS at that moment"
                : "VmHWM of the whole process over VmRSS after the inputs were made";
}

int64_t AvailableBytes() { return Entry("/proc/meminfo", "MemAvailable"); }

void LimitFurtherMemory(int64_t bytes) {
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  const auto most = static_cast<rlim_t>(Entry("/proc/self/status", "VmSize") + bytes);
  limit.rlim_cur = std::min(limit.rlim_max, most);
  setrlimit(RLIMIT_AS, &limit);
}

}  // namespace lectern::bench
