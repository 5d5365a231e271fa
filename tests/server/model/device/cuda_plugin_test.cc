#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "server/model/device/int8_device.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

// The real plug-in, where it was built, on a machine without a GPU.
TEST(CudaPluginTest, WithoutAGpuItSaysSo) {
  const std::string library = std::string(std::getenv("LECTERN_BIN_DIR")) + "/liblectern_cuda.so";
  LECTERN_REQUIRE_FILE(std::filesystem::exists(library), library);
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has a GPU";
  const auto device = Int8Device::Open(library, nullptr);
  EXPECT_EQ(device.status().code(), absl::StatusCode::kFailedPrecondition) << device.status();
  EXPECT_THAT(std::string(device.status().message()), testing::HasSubstr("no device: cudaError"));
}

}  // namespace
}  // namespace lectern::test
