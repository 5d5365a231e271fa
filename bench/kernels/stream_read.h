// Plain reading of memory by a team of threads: the upper limit for kernels that read weights and
// keys once.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>

#include "kernels/runtime/thread_team.h"

namespace lectern::kernels {

using CacheLine = uint64_t __attribute__((vector_size(64)));

// Reads lines [0, count), a multiple of 4, in one stream for each thread.
inline void ReadStream(const CacheLine* lines, int64_t count, int threads) {
  ForItems(threads, {.count = count, .step = 4}, [&](ItemRange range, int) {
    CacheLine a{}, b{}, c{}, d{};
    for (int64_t i = range.begin; i < range.end; i += 4) {
      a += lines[i], b += lines[i + 1], c += lines[i + 2], d += lines[i + 3];
    }
    CacheLine sum = a + b + c + d;
    benchmark::DoNotOptimize(sum);
  });
}

}  // namespace lectern::kernels
