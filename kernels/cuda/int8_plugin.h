// The interface of a library that computes the integer sums of int8 products on another processor:
// liblectern_cuda.so (int8_plugin.cu), or a test's. It is a C interface because the library is
// compiled by another compiler and loaded while the program runs (server/model/device).
//
// Nothing here is thread-safe: a device has one stream and one pair of staging buffers, so its
// owner makes one call at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lectern::kernels {

// Incremented with every change of this file.
inline constexpr uint32_t kInt8PluginVersion = 1;
inline constexpr char kInt8PluginFunction[] = "lectern_int8_plugin";

struct Int8PluginError {
  char code[64];   // the name of CUDA's error, such as "cudaErrorMemoryAllocation"
  char text[256];  // human-readable
  bool out_of_memory;
};

struct Int8PluginDevice {
  void* state;     // private to the library
  char name[256];  // human-readable
  // Pinned memory of the CPU.
  int32_t* x;  // [x_words]
  int64_t x_words;
  int32_t* sums;  // [sums_words]
  int64_t sums_words;
};

// Functions return true on success and fill `error` otherwise.
struct Int8Plugin {
  uint32_t version;  // kInt8PluginVersion when it was compiled
  bool (*open)(Int8PluginDevice* device, Int8PluginError* error);
  void (*close)(const Int8PluginDevice* device);
  // Copies packed weights (int8_linear_isa.h) into the device's memory.
  bool (*upload)(const Int8PluginDevice* device, const int8_t* packed, size_t bytes, void** matrix,
                 Int8PluginError* error);
  void (*release)(const Int8PluginDevice* device, void* matrix);
  // device->sums [rows, blocks * 64] = device->x [rows, groups] times the matrix of [blocks,
  // groups, 64] words (int8_product_thread.h); they must fit into the buffers. Blocks until the
  // sums are there.
  bool (*multiply)(const Int8PluginDevice* device, const void* matrix, int64_t rows, int64_t groups,
                   int64_t blocks, Int8PluginError* error);
};

// The type of the library's one function, kInt8PluginFunction.
using Int8PluginFunction = const Int8Plugin*();

}  // namespace lectern::kernels
