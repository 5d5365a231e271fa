// What a library offers that makes the integer sums of int8 products on another processor:
// liblectern_cuda.so (int8_plugin.cu), or a test's. A C interface, since the library is compiled by
// another compiler and loaded while the program runs (server/model/device).
//
// Nothing here is thread-safe: a device has one stream and one pair of staging buffers, and whoever
// opened it makes one call at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lectern::kernels {

// Goes up with every change of this file.
inline constexpr uint32_t kInt8PluginVersion = 1;
inline constexpr char kInt8PluginFunction[] = "lectern_int8_plugin";

struct Int8PluginError {
  char code[64];   // the name of CUDA's error, as "cudaErrorMemoryAllocation"
  char text[256];  // for people
  bool out_of_memory;
};

struct Int8PluginDevice {
  void* state;     // of the plug-in
  char name[256];  // for people
  // Memory of the CPU that the device reaches quickly.
  int32_t* x;  // [x_words]
  int64_t x_words;
  int32_t* sums;  // [sums_words]
  int64_t sums_words;
};

// Functions return true when they succeed, else they fill `error`.
struct Int8Plugin {
  uint32_t version;  // kInt8PluginVersion of when it was compiled
  bool (*open)(Int8PluginDevice* device, Int8PluginError* error);
  void (*close)(const Int8PluginDevice* device);
  // Copies packed weights (int8_linear_isa.h) into the device's memory.
  bool (*upload)(const Int8PluginDevice* device, const int8_t* packed, size_t bytes, void** matrix,
                 Int8PluginError* error);
  void (*release)(const Int8PluginDevice* device, void* matrix);
  // device->sums [rows, blocks * 64] = device->x [rows, groups] times the matrix of [blocks,
  // groups, 64] words (int8_product_thread.h); they fit into the buffers. Returns when that is
  // done.
  bool (*multiply)(const Int8PluginDevice* device, const void* matrix, int64_t rows, int64_t groups,
                   int64_t blocks, Int8PluginError* error);
};

// The type of the library's one function, kInt8PluginFunction.
using Int8PluginFunction = const Int8Plugin*();

}  // namespace lectern::kernels
