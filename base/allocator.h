// How the C library's allocator is to behave in a server that runs for months.
#pragma once

#include <malloc.h>

namespace lectern {

// Call before threads are made. Two pools instead of eight a core, and every large block mapped on
// its own and given back at once: by itself glibc raises the size from which it does so to 32 MiB
// as soon as one such block is freed, and texts, token lists and their like then leave holes, so
// that resident memory creeps up although nothing is leaked (docs/measurements/load.md).
inline void ConfigureMalloc() {
  constexpr int kPools = 2;
  constexpr int kLargeBytes = 256 << 10;
  mallopt(M_ARENA_MAX, kPools);
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);
  mallopt(M_TRIM_THRESHOLD, 4 * kLargeBytes);
}

}  // namespace lectern
