// How the threads of a team share the cores of the machine with other processes. Nothing here
// changes a result. The figures are in docs/measurements/peers.md, "Beside a busy process".
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace lectern::kernels {

inline constexpr int kMaxTeamThreads = 1024;

// Gives up the core of the calling thread between two items when another process wants it.
// Otherwise the kernel's scheduler would take the core for some milliseconds, usually in the middle
// of an item that other threads wait for. One object belongs to one thread.
class CoreOffer {
 public:
  // Call on the thread itself: shortens the timer slack, so that a sleep lasts as long as asked;
  // Linux adds 50 us by default.
  CoreOffer();

  // Call between two items. Sleeps for a moment if the thread has had the core for a whole turn,
  // unless nobody took the last few offers.
  void Offer();

 private:
  std::chrono::steady_clock::time_point since_{};  // when the thread last got the core
  int64_t preemptions_ = 0;                        // seen so far
  int unwanted_;                                   // offers in a row that nobody took
};

// Keeps the threads of a team on different cores. With one busy process more than there are cores,
// Linux may leave two threads of a team on one core and that process alone on another for good,
// which halves the speed of the team. Threads record and read cores without a lock.
class TeamCores {
 public:
  TeamCores();

  // Records the core that thread number `thread` of the team, the calling one, runs on.
  void Record(int thread);

  // Records the core too, and moves the calling thread to a free core if a thread with a lower
  // number runs on the same one. The affinity mask is restored afterwards.
  void RecordApart(int thread, int num_threads);

 private:
  static constexpr int kUnknown = -1;

  int CoreOf(int thread) const { return core_[thread].load(std::memory_order_relaxed); }
  void MoveToFreeCore(int thread, int num_threads);

  std::array<std::atomic<int>, kMaxTeamThreads> core_;
};

}  // namespace lectern::kernels
