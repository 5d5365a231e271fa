// liblectern_fake_cuda.so: a plug-in (kernels/cuda/int8_plugin.h) that computes on the CPU what the
// GPU would, counts what it is asked, and fails when a test says so.
#pragma once

#include <cstdint>

namespace lectern::test {

// The size of each of its two staging buffers: small, so that products of tests need several parts.
inline constexpr int64_t kFakeStagingWords = 1 << 18;

// The state of the loaded library; not thread-safe, like the plug-in.
struct FakeInt8Device {
  // Set by the test.
  uint32_t version = 0;  // of the plug-in
  bool present = true;   // opening finds a device
  bool full = false;     // uploads find no memory
  int64_t fails_at = 0;  // this multiplication fails, counted from 1; 0: none
  // Recorded by the library.
  int64_t multiplications = 0;
  int64_t fewest_rows = 0;  // of a multiplication; 0: there was none
  int64_t most_rows = 0;
  int64_t open_devices = 0;
  int64_t matrices = 0;  // held
};

// The library's second function. LECTERN_FAKE_DEVICE_FAILS_AT sets fails_at from outside.
inline constexpr char kFakeInt8DeviceFunction[] = "lectern_fake_int8_device";
using FakeInt8DeviceFunction = FakeInt8Device*();

}  // namespace lectern::test
