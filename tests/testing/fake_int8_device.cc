#include "tests/testing/fake_int8_device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <vector>

#include "kernels/cuda/int8_plugin.h"
#include "tests/testing/int8_product_on_host.h"

namespace lectern::test {
namespace {

using kernels::Int8PluginDevice;
using kernels::Int8PluginError;

FakeInt8Device& Fake() {
  static FakeInt8Device fake = [] {
    const char* fails_at = std::getenv("LECTERN_FAKE_DEVICE_FAILS_AT");
    return FakeInt8Device{.version = kernels::kInt8PluginVersion,
                          .fails_at = fails_at == nullptr ? 0 : std::atoi(fails_at)};
  }();
  return fake;
}

bool Fail(const char* code, bool out_of_memory, Int8PluginError* error) {
  std::snprintf(error->code, sizeof(error->code), "%s", code);
  std::snprintf(error->text, sizeof(error->text), "as the test says");
  error->out_of_memory = out_of_memory;
  return false;
}

struct State {
  std::vector<int32_t> x = std::vector<int32_t>(kFakeStagingWords);
  std::vector<int32_t> sums = std::vector<int32_t>(kFakeStagingWords);
};

bool Open(Int8PluginDevice* device, Int8PluginError* error) {
  if (!Fake().present) return Fail("cudaErrorNoDevice", false, error);
  auto* state = new State;
  *device = {.state = state,
             .name = "fake",
             .x = state->x.data(),
             .x_words = kFakeStagingWords,
             .sums = state->sums.data(),
             .sums_words = kFakeStagingWords};
  ++Fake().open_devices;
  return true;
}

void Close(const Int8PluginDevice* device) {
  delete static_cast<State*>(device->state);
  --Fake().open_devices;
}

bool Upload(const Int8PluginDevice*, const int8_t* packed, size_t bytes, void** matrix,
            Int8PluginError* error) {
  if (Fake().full) return Fail("cudaErrorMemoryAllocation", true, error);
  auto* words = new std::vector<int32_t>(bytes / sizeof(int32_t));
  std::copy_n(packed, bytes, reinterpret_cast<int8_t*>(words->data()));
  *matrix = words;
  ++Fake().matrices;
  return true;
}

void Release(const Int8PluginDevice*, void* matrix) {
  delete static_cast<std::vector<int32_t>*>(matrix);
  --Fake().matrices;
}

bool Multiply(const Int8PluginDevice* device, const void* matrix, int64_t rows, int64_t groups,
              int64_t blocks, Int8PluginError* error) {
  FakeInt8Device& fake = Fake();
  fake.fewest_rows = fake.multiplications == 0 ? rows : std::min(fake.fewest_rows, rows);
  fake.most_rows = std::max(fake.most_rows, rows);
  if (++fake.multiplications == fake.fails_at) {
    // Sums of which some are wrong must not be used.
    device->sums[0] = -1;
    return Fail("cudaErrorLaunchFailure", false, error);
  }
  kernels::Int8ProductOnHost({.x = device->x,
                              .weights = static_cast<const std::vector<int32_t>*>(matrix)->data(),
                              .sums = device->sums,
                              .rows = rows,
                              .groups = groups,
                              .blocks = blocks});
  return true;
}

}  // namespace
}  // namespace lectern::test

extern "C" __attribute__((visibility("default"))) const lectern::kernels::Int8Plugin*
lectern_int8_plugin() {
  using namespace lectern::test;
  static lectern::kernels::Int8Plugin plugin;
  plugin = {Fake().version, Open, Close, Upload, Release, Multiply};
  return &plugin;
}

extern "C" __attribute__((visibility("default"))) lectern::test::FakeInt8Device*
lectern_fake_int8_device() {
  return &lectern::test::Fake();
}

static_assert(std::is_same_v<decltype(lectern_int8_plugin), lectern::kernels::Int8PluginFunction>);
static_assert(
    std::is_same_v<decltype(lectern_fake_int8_device), lectern::test::FakeInt8DeviceFunction>);
