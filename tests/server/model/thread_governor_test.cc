#include "server/model/thread_governor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace lectern {
namespace {

struct Readings {
  int64_t now = 1'000'000'000'000;
  int64_t waited = 0;  // since the last start
  int starts = 0;
  int watched = 0;
};

class FakeWatch : public TeamWatch {
 public:
  explicit FakeWatch(Readings* readings) : readings_(readings) {}
  int64_t NowNs() override { return readings_->now; }
  void Start(int threads) override {
    readings_->waited = 0;
    readings_->watched = threads;
    ++readings_->starts;
  }
  int64_t WaitedNs() override { return readings_->waited; }

 private:
  Readings* const readings_;
};

class ThreadGovernorTest : public testing::Test {
 protected:
  // Runs parts of 1 ms each for `ms`, during which the threads of a team wait `share` of the time
  // per millisecond unless the team is reduced; returns the parts that ran on all threads.
  int Run(int ms, double share) {
    int full = 0;
    for (int i = 0; i < ms; ++i) {
      const int threads = governor_.Threads(all_);
      least_ = std::min(least_, threads);
      full += threads == all_;
      readings_.now += 1'000'000;
      if (threads == all_) readings_.waited += static_cast<int64_t>(share * 1e6);
    }
    return full;
  }

  Readings readings_;
  ThreadGovernor governor_{std::make_unique<FakeWatch>(&readings_)};
  int all_ = 2;
  int least_ = 99;
};

TEST_F(ThreadGovernorTest, FreeCoresKeepAllThreads) {
  EXPECT_EQ(Run(1000, 0.1), 1000);
  EXPECT_EQ(readings_.starts, 50) << "one reading per window";
}

TEST_F(ThreadGovernorTest, ASharedCoreTakesAThreadAwayFourFifthsOfTheTime) {
  EXPECT_EQ(Run(600, 0.5), 120);
  EXPECT_EQ(least_, 1);
}

TEST_F(ThreadGovernorTest, AllThreadsComeBackWithinFiveWindows) {
  Run(600, 0.5);
  Run(100, 0.0);
  EXPECT_EQ(Run(500, 0.0), 500);
}

TEST_F(ThreadGovernorTest, LeavesAsManyThreadsAsCoresAreFree) {
  all_ = 8;
  Run(60, 1.6);  // three cores are shared
  EXPECT_EQ(least_, 5);
  EXPECT_EQ(readings_.watched, 8);
}

TEST_F(ThreadGovernorTest, LeavesAtLeastOneThread) {
  Run(60, 1.9);
  EXPECT_EQ(least_, 1);
}

TEST_F(ThreadGovernorTest, TimeBetweenStepsIsNotWaiting) {
  Run(10, 0.5);
  readings_.now += 1'000'000'000;
  EXPECT_EQ(governor_.Threads(all_), 2);
  Run(30, 0.5);
  EXPECT_EQ(least_, 1) << "the next window counts for itself";
}

TEST_F(ThreadGovernorTest, OneThreadIsNotWatched) {
  all_ = 1;
  EXPECT_EQ(Run(100, 0.9), 100);
  EXPECT_EQ(readings_.starts, 0);
}

TEST_F(ThreadGovernorTest, AnotherNumberOfThreadsStartsAnew) {
  Run(30, 0.5);
  EXPECT_EQ(governor_.Threads(4), 4);
  EXPECT_EQ(readings_.watched, 4);
}

TEST(TeamWatchTest, ReadsTheKernelsAccount) {
  const auto watch = NewTeamWatch();
  const int64_t before = watch->NowNs();
  watch->Start(2);
  EXPECT_GE(watch->WaitedNs(), 0);
  EXPECT_GE(watch->NowNs(), before);
}

}  // namespace
}  // namespace lectern
