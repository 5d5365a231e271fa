#include "kernels/runtime/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

namespace lectern::kernels {
namespace {

int Length(ItemRange range) { return static_cast<int>(range.end - range.begin); }

// How often each item was handed out.
std::vector<int> TimesTaken(int num_threads, const Items& items) {
  std::vector<int> times(items.count);
  ForItems(num_threads, items, [&](ItemRange range, int) {
    for (int64_t i = range.begin; i < range.end; ++i) ++times[i];
  });
  return times;
}

TEST(ThreadTeamTest, EachItemIsTakenOnce) {
  for (const int num_threads : {1, 2, 3, 8}) {
    for (const int64_t count : {1, 2, 7, 64, 1000}) {
      for (const Items& items :
           {Items{.count = count}, Items{.count = count, .step = 2},
            Items{.count = count, .most = 1}, Items{.count = count, .step = 4, .most = 10}}) {
        SCOPED_TRACE(testing::Message() << num_threads << " threads, " << count << " items by "
                                        << items.step << ", at most " << items.most);
        EXPECT_EQ(TimesTaken(num_threads, items), std::vector<int>(count, 1));
      }
    }
  }
}

TEST(ThreadTeamTest, NoItemsNoCall) {
  for (const int64_t count : {0, -1}) {
    ForItems(2, {.count = count}, [](ItemRange, int) { FAIL(); });
  }
}

TEST(ThreadTeamTest, RangesBeginAtStepsAndAreNoLongerThanAsked) {
  std::mutex mutex;
  std::vector<ItemRange> ranges;
  ForItems(3, {.count = 1001, .step = 8, .most = 24}, [&](ItemRange range, int) {
    const std::lock_guard lock(mutex);
    ranges.push_back(range);
  });
  for (const ItemRange& range : ranges) {
    EXPECT_EQ(range.begin % 8, 0);
    EXPECT_LE(Length(range), 24);
  }
}

TEST(ThreadTeamTest, ThreadsHaveDistinctNumbers) {
  std::vector<std::atomic<int>> inside(4);
  ForItems(4, {.count = 1000, .most = 1}, [&](ItemRange, int thread) {
    ASSERT_LT(thread, 4);
    EXPECT_EQ(inside[thread].fetch_add(1), 0);
    inside[thread].fetch_sub(1);
  });
}

// An item that waits for another one to begin ends only if two threads are at work.
TEST(ThreadTeamTest, ItemsRunAtTheSameTime) {
  std::atomic<int> begun{0};
  ForItems(2, {.count = 2, .most = 1}, [&](ItemRange, int) {
    ++begun;
    while (begun.load() < 2) std::this_thread::yield();
  });
  EXPECT_EQ(begun.load(), 2);
}

// The caller does all the work that a thread leaves while it is held up in one item.
TEST(ThreadTeamTest, AThreadThatIsHeldUpHoldsUpOnlyItsItem) {
  constexpr int64_t kItems = 50;
  std::atomic<int64_t> by_caller{0};
  std::atomic<bool> held{false};
  ForItems(2, {.count = kItems, .most = 1}, [&](ItemRange, int thread) {
    if (thread == 0) {
      while (!held.load()) std::this_thread::yield();  // so that both take one
      ++by_caller;
      return;
    }
    held = true;
    while (by_caller.load() < kItems - 1) std::this_thread::yield();
  });
  EXPECT_EQ(by_caller.load(), kItems - 1);
}

TEST(ThreadTeamTest, ALoopSeesTheWritesOfTheOneBefore) {
  constexpr int64_t kCount = 100;
  std::vector<int64_t> from(kCount), to(kCount);
  std::iota(from.begin(), from.end(), 0);
  const std::vector<int64_t> first = from;
  for (int round = 1; round <= 2000; ++round) {
    ForItems(3, {.count = kCount}, [&](ItemRange range, int) {
      for (int64_t i = range.begin; i < range.end; ++i) to[i] = from[(i + 1) % kCount];
    });
    std::swap(from, to);
  }
  EXPECT_EQ(from, first);  // rotated twenty times
}

TEST(ThreadTeamTest, ALoopWithinALoopRunsOnItsThread) {
  std::atomic<int> sum{0};
  ForItems(2, {.count = 4, .most = 1}, [&](ItemRange, int) {
    const std::thread::id outer = std::this_thread::get_id();
    ForItems(2, {.count = 10, .most = 1}, [&](ItemRange range, int thread) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      EXPECT_EQ(thread, 0);
      sum += Length(range);
    });
  });
  EXPECT_EQ(sum.load(), 40);
}

TEST(ThreadTeamTest, TeamsGrowAndShrinkFromLoopToLoop) {
  for (const int num_threads : {2, 5, 1, 3, 8, 2}) {
    std::vector<std::atomic<int>> taken(num_threads);
    ForItems(num_threads, {.count = 200, .most = 1},
             [&](ItemRange range, int thread) { taken.at(thread) += Length(range); });
    int sum = 0;
    for (const std::atomic<int>& items : taken) sum += items.load();
    EXPECT_EQ(sum, 200);
  }
}

TEST(ThreadTeamTest, CallingThreadsDoNotMix) {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([caller] {
      for (int round = 0; round < 300; ++round) {
        const std::vector<int> times = TimesTaken(2, {.count = 20 + caller});
        ASSERT_EQ(times, std::vector<int>(20 + caller, 1));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// Sleeping threads come back, and a core is given to another thread and taken back: here are more
// busy threads than cores, for longer than a turn.
TEST(ThreadTeamTest, LoopsContinueNextToBusyThreads) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
    busy.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  int64_t loops = 0;
  std::atomic<int64_t> items{0};
  for (; std::chrono::steady_clock::now() < end; ++loops) {
    if (loops % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ForItems(2, {.count = 16, .most = 1}, [&](ItemRange, int) {
      for (volatile int spin = 0; spin < 2000;) spin = spin + 1;
      ++items;
    });
  }
  stop = true;
  for (std::thread& thread : busy) thread.join();
  EXPECT_EQ(items.load(), 16 * loops);
}

}  // namespace
}  // namespace lectern::kernels
