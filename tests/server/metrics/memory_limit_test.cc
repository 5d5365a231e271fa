// Control groups of version 1 and 2 as files of a folder of the test's own.
#include "server/metrics/memory_limit.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/testing/temporary_folder.h"

namespace lectern {
namespace {

class MemoryLimitTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = std::filesystem::path(folder_.path()) / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  uint64_t Limit() const { return MemoryLimitBytes(folder_.path()); }

 private:
  TemporaryFolder folder_;
};

TEST_F(MemoryLimitTest, NoLimitIsZero) { EXPECT_EQ(Limit(), 0u); }

TEST_F(MemoryLimitTest, TheMachinesMemoryWithoutALimit) {
  Write("proc/meminfo", "MemTotal:        1024 kB\nMemFree: 1 kB\n");
  Write("proc/self/cgroup", "0::/a/b\n");
  Write("sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_EQ(Limit(), 1024u << 10);
}

TEST_F(MemoryLimitTest, TheLowestOfAGroupAndThoseAboveIt) {
  Write("proc/meminfo", "MemTotal: 1024 kB\n");
  Write("proc/self/cgroup", "0::/a/b\n");
  Write("sys/fs/cgroup/a/memory.max", "3000\n");
  Write("sys/fs/cgroup/a/b/memory.max", "5000\n");
  Write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(Limit(), 3000u);
}

TEST_F(MemoryLimitTest, InAContainerTheRootIsItsGroup) {
  Write("proc/self/cgroup", "0::/../../host/path\n");
  Write("sys/fs/cgroup/memory.max", "7000\n");
  EXPECT_EQ(Limit(), 7000u);
}

TEST_F(MemoryLimitTest, VersionOne) {
  Write("proc/self/cgroup", "5:devices:/\n4:memory:/pod/x\n0::/\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("sys/fs/cgroup/memory/pod/x/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(Limit(), 4096u);
}

TEST_F(MemoryLimitTest, ThisProcessHasOne) { EXPECT_GT(MemoryLimitBytes(), 1u << 20); }

}  // namespace
}  // namespace lectern
