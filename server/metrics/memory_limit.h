// The memory that this process may use.
#pragma once

#include <cstdint>
#include <filesystem>

namespace lectern {

// Returns the lowest limit of the process's control groups (version 1 or 2, ancestors included), at
// most the machine's memory; 0 if neither is known. `root` holds /proc and /sys.
uint64_t MemoryLimitBytes(const std::filesystem::path& root = "/");

}  // namespace lectern
