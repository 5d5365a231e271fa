// Configures the C library's allocator for a server that runs for months.
#pragma once

#include <malloc.h>

namespace lectern {

// Call before threads are created. Sets two pools instead of eight for each core, and maps every
// large block separately and returns it at once. By default glibc raises the threshold for that to
// 32 MiB as soon as one such block is freed; texts and token lists then leave holes, and resident
// memory grows although nothing is leaked (docs/measurements/load.md).
inline void ConfigureMalloc() {
  constexpr int kPools = 2;
  constexpr int kLargeBytes = 256 << 10;
  mallopt(M_ARENA_MAX, kPools);
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);
  mallopt(M_TRIM_THRESHOLD, 4 * kLargeBytes);
}

}  // namespace lectern
