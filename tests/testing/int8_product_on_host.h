// The GPU's int8 product (kernels/cuda/int8_product_thread.h) on the CPU: every thread of the
// launch grid, between the same two points where they wait for each other.
#pragma once

#include <vector>

#include "kernels/cuda/int8_product_thread.h"

namespace lectern::kernels {

inline void Int8ProductOnHost(const Int8SumsProblem& problem) {
  std::vector<int32_t> tile(kInt8TileWords);
  for (int64_t row_tile = 0; row_tile < problem.row_tiles(); ++row_tile) {
    for (int64_t block = 0; block < problem.blocks; ++block) {
      std::vector<Int8ProductThread> threads;
      for (int thread = 0; thread < kInt8ProductThreads; ++thread) {
        threads.emplace_back(problem, row_tile, block, thread);
      }
      for (int64_t chunk = 0; chunk < problem.chunks(); ++chunk) {
        for (const Int8ProductThread& thread : threads) thread.Load(chunk, tile.data());
        for (Int8ProductThread& thread : threads) thread.Accumulate(chunk, tile.data());
      }
      for (const Int8ProductThread& thread : threads) thread.Store();
    }
  }
}

}  // namespace lectern::kernels
