// Loading the real model never needs much more memory than the loaded model does.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "server/model/loading/model_loader.h"
#include "tests/server/model/decoder/real_model.h"
#include "tests/testing/golden.h"

namespace lectern::test {
namespace {

using Numerics = ModelLoadOptions::Numerics;

// Bytes of a line of /proc/self/status, e.g. "VmHWM:".
int64_t StatusBytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = 0;
  while (status >> word) {
    if (word == key && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// In a child process, whose peak is its own: the exit code says what happened.
int LoadAndMeasure(Numerics numerics) {
  std::ofstream("/proc/self/clear_refs") << "5";  // resets the peak
  const int64_t before = StatusBytes("VmRSS:");
  const auto model = LoadRealModel(numerics);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.status().ToString().c_str());
    return 2;
  }
  const auto grown = static_cast<double>(StatusBytes("VmHWM:") - before);
  const auto weights = static_cast<double>((*model)->info().weight_bytes);
  std::fprintf(stderr, "%s: weights %.0f MB, peak %.0f MB, %.2f times\n",
               (*model)->info().numerics.c_str(), weights / 1e6, grown / 1e6, grown / weights);
  return grown <= 1.6 * weights ? 0 : 1;
}

class LoadMemoryTest : public ::testing::TestWithParam<Numerics> {};

TEST_P(LoadMemoryTest, PeakIsBelowOnePointSixTimesTheWeights) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers hold freed memory back";
#endif
  LECTERN_REQUIRE_FILE(std::filesystem::exists(RealModelPath()), RealModelPath());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) _exit(LoadAndMeasure(GetParam()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

INSTANTIATE_TEST_SUITE_P(Numerics, LoadMemoryTest,
                         ::testing::Values(Numerics::kF32, Numerics::kInt8Rotated,
                                           Numerics::kBlocks));

}  // namespace
}  // namespace lectern::test
