// How much memory this process may use.
#pragma once

#include <cstdint>
#include <filesystem>

namespace lectern {

// The lowest limit of its control groups (version 1 or 2, those above it included), at most the
// machine's memory; 0 if nothing tells. `root` is where /proc and /sys are.
uint64_t MemoryLimitBytes(const std::filesystem::path& root = "/");

}  // namespace lectern
