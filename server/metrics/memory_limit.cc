#include "server/metrics/memory_limit.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace lectern {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

// Returns the number in a control group's file; kNone for "max" or a missing file.
uint64_t ReadLimit(const fs::path& path) {
  std::ifstream file(path);
  uint64_t bytes = 0;
  return file >> bytes ? bytes : kNone;
}

// Returns the lowest limit of a group and its ancestors. Inside a container the path is the host's
// and does not exist, but the root of the hierarchy is the container's group.
uint64_t LowestLimit(const fs::path& hierarchy, const std::string& group, const char* file) {
  uint64_t limit = ReadLimit(hierarchy / file);
  fs::path folder = hierarchy;
  for (const fs::path& name : fs::path(group).relative_path()) {
    folder /= name;
    limit = std::min(limit, ReadLimit(folder / file));
  }
  return limit;
}

uint64_t MachineMemory(const fs::path& root) {
  std::ifstream file(root / "proc/meminfo");
  std::string name;
  uint64_t kilobytes = 0;
  return file >> name >> kilobytes && name == "MemTotal:" ? kilobytes << 10 : kNone;
}

}  // namespace

uint64_t MemoryLimitBytes(const fs::path& root) {
  uint64_t limit = MachineMemory(root);
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/a/b" or "0::/a/b"
    const size_t controllers = line.find(':');
    const size_t path = line.find(':', controllers + 1);
    if (path == std::string::npos) continue;
    const std::string names = line.substr(controllers + 1, path - controllers - 1);
    const std::string group = line.substr(path + 1);
    if (names.empty()) {
      limit = std::min(limit, LowestLimit(root / "sys/fs/cgroup", group, "memory.max"));
    } else if (names == "memory") {
      limit = std::min(limit,
                       LowestLimit(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
  }
  return limit == kNone ? 0 : limit;
}

}  // namespace lectern
