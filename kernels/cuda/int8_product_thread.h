// One thread of the GPU's int8 product: exact integer sums of x W^T. Tests run this code on the CPU
// (tests/testing/int8_product_on_host.h); it has never run on a GPU.
//
// A group of kInt8ProductThreads threads computes a tile of kInt8TileRows rows by one packed block
// of 64 channels (int8_linear_isa.h). It walks along the inputs in chunks: all threads load a chunk
// of the activations into shared memory, synchronise, multiply it by the weights, and synchronise
// again. A thread has one channel and kInt8ThreadRows rows; neighbours read neighbouring words of
// the weights, and the same word of the activations.
#pragma once

#include <cstdint>

#include "kernels/linear/int8_linear_isa.h"

#ifdef __CUDACC__
#define LECTERN_HOST_DEVICE __host__ __device__
#else
#define LECTERN_HOST_DEVICE
#endif

namespace lectern::kernels {

inline constexpr int kInt8ThreadRows = 8;
inline constexpr int kInt8TileRows = 32;
inline constexpr int kInt8ChunkGroups = 64;  // of four inputs
inline constexpr int kInt8TileWords = kInt8TileRows * kInt8ChunkGroups;
inline constexpr int kInt8ProductThreads = kInt8BlockChannels * kInt8TileRows / kInt8ThreadRows;

// Words hold four int8 values each, the first one in the lowest byte.
struct Int8SumsProblem {
  const int32_t* x = nullptr;        // [rows, groups]
  const int32_t* weights = nullptr;  // [blocks, groups, 64], packed
  int32_t* sums = nullptr;           // [rows, blocks * 64]
  int64_t rows = 0;
  int64_t groups = 0;
  int64_t blocks = 0;

  LECTERN_HOST_DEVICE int64_t row_tiles() const {
    return (rows + kInt8TileRows - 1) / kInt8TileRows;
  }
  LECTERN_HOST_DEVICE int64_t chunks() const {
    return (groups + kInt8ChunkGroups - 1) / kInt8ChunkGroups;
  }
};

// Returns sum + the products of the four int8 values of a and b.
LECTERN_HOST_DEVICE inline int32_t AddQuadProduct(int32_t a, int32_t b, int32_t sum) {
#ifdef __CUDA_ARCH__
  return __dp4a(a, b, sum);
#else
  for (int shift = 0; shift < 32; shift += 8) {
    sum += static_cast<int8_t>(a >> shift) * static_cast<int8_t>(b >> shift);
  }
  return sum;
#endif
}

// For every chunk in order the caller calls Load, waits for the tile's other threads, calls
// Accumulate and waits again; then it calls Store.
class Int8ProductThread {
 public:
  LECTERN_HOST_DEVICE Int8ProductThread(const Int8SumsProblem& problem, int64_t row_tile,
                                        int64_t block, int thread)
      : problem_(problem),
        tile_row_(row_tile * kInt8TileRows),
        block_(block),
        thread_(thread),
        channel_(thread % kInt8BlockChannels),
        first_(thread / kInt8BlockChannels * kInt8ThreadRows) {}

  // Loads this thread's share of tile [kInt8TileRows, kInt8ChunkGroups], with zeros where there is
  // no input.
  LECTERN_HOST_DEVICE void Load(int64_t chunk, int32_t* tile) const {
    for (int word = thread_; word < kInt8TileWords; word += kInt8ProductThreads) {
      const int64_t row = tile_row_ + word / kInt8ChunkGroups;
      const int64_t group = chunk * kInt8ChunkGroups + word % kInt8ChunkGroups;
      const bool exists = row < problem_.rows && group < problem_.groups;
      tile[word] = exists ? problem_.x[row * problem_.groups + group] : 0;
    }
  }

  LECTERN_HOST_DEVICE void Accumulate(int64_t chunk, const int32_t* tile) {
    const int64_t begin = chunk * kInt8ChunkGroups;
    const int64_t left = problem_.groups - begin;
    const int count = left < kInt8ChunkGroups ? static_cast<int>(left) : kInt8ChunkGroups;
    const int32_t* weights =
        problem_.weights + (block_ * problem_.groups + begin) * kInt8BlockChannels + channel_;
    for (int group = 0; group < count; ++group) {
      const int32_t quad = weights[group * kInt8BlockChannels];
      for (int row = 0; row < kInt8ThreadRows; ++row) {
        sums_[row] =
            AddQuadProduct(tile[(first_ + row) * kInt8ChunkGroups + group], quad, sums_[row]);
      }
    }
  }

  LECTERN_HOST_DEVICE void Store() const {
    for (int row = 0; row < kInt8ThreadRows; ++row) {
      const int64_t at = tile_row_ + first_ + row;
      if (at < problem_.rows) {
        problem_.sums[(at * problem_.blocks + block_) * kInt8BlockChannels + channel_] = sums_[row];
      }
    }
  }

 private:
  const Int8SumsProblem problem_;
  const int64_t tile_row_;
  const int64_t block_;
  const int thread_;
  const int channel_;
  const int first_;  // the first of its rows in the tile
  int32_t sums_[kInt8ThreadRows] = {};
};

}  // namespace lectern::kernels
