// How many threads a model step runs on when other processes want the cores too.
//
// The threads of a step wait for each other some hundred times. If one of them shares its core, all
// wait while it does not run: two threads beside one busy process are slower than one thread. Fewer
// threads give the same bits. So the governor watches, for short windows, how long the threads were
// ready to run and did not: beyond a third of a window, the next steps run on fewer threads for
// four windows, and so on. A fifth of the time on all threads costs a busy machine little and finds
// out soon that the cores are free again (docs/kernels.md has the figures).
#pragma once

#include <cstdint>
#include <memory>

namespace lectern {

// What the operating system says about the threads of a step. Called by the thread that runs steps.
class TeamWatch {
 public:
  virtual ~TeamWatch() = default;
  virtual int64_t NowNs() = 0;
  // Watches the threads of a team from now on.
  virtual void Start(int threads) = 0;
  // Time that they were ready but not running since Start(), summed; 0 if nobody knows.
  virtual int64_t WaitedNs() = 0;
};

// Reads /proc/self/task/*/schedstat.
std::unique_ptr<TeamWatch> NewTeamWatch();

// Not thread-safe: one per thread that runs steps.
class ThreadGovernor {
 public:
  static constexpr int64_t kWindowNs = 20'000'000;
  static constexpr int64_t kReducedNs = 4 * kWindowNs;

  explicit ThreadGovernor(std::unique_ptr<TeamWatch> watch);

  // Threads for the next part of a step that may run on `all` >= 1. Cheap: reads a clock, and once
  // in a window asks the watch.
  int Threads(int all);

 private:
  const std::unique_ptr<TeamWatch> watch_;
  int all_ = 0;           // of the window
  int threads_ = 0;       // in the window; less than all_: reduced
  int64_t start_ns_ = 0;  // of the window
};

}  // namespace lectern
