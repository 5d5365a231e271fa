// Tests of the pages' memory: never more than the budget, and never another document's bytes.
#include "server/engine/kv_cache/page_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace lectern {
namespace {

bool AllZero(const PageSet& set, size_t page_bytes) {
  return std::all_of(set.pages().begin(), set.pages().end(), [&](const std::byte* page) {
    return std::all_of(page, page + page_bytes, [](std::byte b) { return b == std::byte{0}; });
  });
}
void Fill(const PageSet& set, size_t page_bytes) {
  for (std::byte* page : set.pages()) std::memset(page, 0xa5, page_bytes);
}

TEST(PagePoolMemoryTest, PagesOfSeveralSizesNeverTakeMoreThanTheBudget) {
  constexpr uint64_t kBudget = 40 * 4096;
  PagePool pool(kBudget);
  const std::vector<size_t> sizes = {4096, 8192, 4096 * 5};
  for (int round = 0; round < 30; ++round) {
    const size_t bytes = sizes[round % sizes.size()];
    PageSet set;
    ASSERT_TRUE(pool.Allocate(bytes, kBudget / bytes, set)) << round;
    EXPECT_TRUE(AllZero(set, bytes)) << round;
    Fill(set, bytes);
    EXPECT_LE(pool.resident(), kBudget) << round;
    EXPECT_EQ(pool.used(), set.bytes());
  }
  EXPECT_EQ(pool.used(), 0u);
}

TEST(PagePoolMemoryTest, APopulatedPoolKeepsItsMemory) {
  constexpr uint64_t kBudget = 64 * 4096;
  PagePool pool(kBudget);
  ASSERT_TRUE(pool.Reserve(4096, /*populate=*/true).ok());
  EXPECT_EQ(pool.resident(), kBudget);
  {
    PageSet set;
    ASSERT_TRUE(pool.Allocate(4096, 64, set));
    EXPECT_TRUE(AllZero(set, 4096));
    Fill(set, 4096);
    PageSet none;
    EXPECT_FALSE(pool.Allocate(4096, 1, none));
  }
  EXPECT_EQ(pool.resident(), kBudget);
  PageSet large;
  ASSERT_TRUE(pool.Allocate(8192, 32, large)) << "another size takes the memory over";
  EXPECT_LE(pool.resident(), kBudget);
}

}  // namespace
}  // namespace lectern
