#include "kernels/runtime/core_sharing.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <thread>

namespace lectern::kernels {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr microseconds kTurn{1000};  // shorter than the time slices of Linux
constexpr microseconds kOffer{10};
// A sleep that took less than this ended because nobody wanted the core.
constexpr microseconds kNobodyCame{300};
// After this many unwanted offers in a row the core counts as the thread's own until it is
// preempted.
constexpr int kOwnCore = 8;

}  // namespace

CoreOffer::CoreOffer() : unwanted_(kOwnCore) { prctl(PR_SET_TIMERSLACK, 1); }

void CoreOffer::Offer() {
  const Clock::time_point now = Clock::now();
  if (now - since_ < kTurn) return;
  since_ = now;
  rusage usage;
  if (getrusage(RUSAGE_THREAD, &usage) != 0) return;
  if (usage.ru_nivcsw != preemptions_) unwanted_ = 0;
  preemptions_ = usage.ru_nivcsw;
  if (unwanted_ >= kOwnCore) return;
  // Unlike yielding, sleeping leaves the core to processes of other control groups as well.
  std::this_thread::sleep_for(kOffer);
  since_ = Clock::now();
  unwanted_ = since_ - now < kNobodyCame ? unwanted_ + 1 : 0;
}

TeamCores::TeamCores() {
  for (std::atomic<int>& core : core_) core.store(kUnknown, std::memory_order_relaxed);
}

void TeamCores::Record(int thread) {
  core_[thread].store(sched_getcpu(), std::memory_order_relaxed);
}

void TeamCores::RecordApart(int thread, int num_threads) {
  Record(thread);
  for (int other = 0; other < thread; ++other) {
    if (CoreOf(other) == CoreOf(thread)) return MoveToFreeCore(thread, num_threads);
  }
}

void TeamCores::MoveToFreeCore(int thread, int num_threads) {
  cpu_set_t allowed, free;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  free = allowed;
  for (int other = 0; other < num_threads; ++other) {
    if (const int core = CoreOf(other); core != kUnknown) CPU_CLR(core, &free);
  }
  if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return;
  Record(thread);
  sched_setaffinity(0, sizeof allowed, &allowed);
}

}  // namespace lectern::kernels
