#include "kernels/runtime/thread_team.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace lectern::kernels {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr int kMostThreads = 1024;  // of a team

// Parts of a model step follow each other within this; longer pauses are slept through.
constexpr microseconds kAwake{100};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns when `word` is no longer `value`.
void AwaitChange(const std::atomic<uint32_t>& word, uint32_t value) {
  const Clock::time_point sleep_at = Clock::now() + kAwake;
  do {
    for (int i = 0; i < 32; ++i) {
      if (word.load(std::memory_order_acquire) != value) return;
      Pause();
    }
  } while (Clock::now() < sleep_at);
  word.wait(value, std::memory_order_acquire);
}

// Leaves a core that another process wants too, of its own accord and between two items: the
// scheduler would take it for some milliseconds, and rather within one. Of one thread.
class SharedCore {
 public:
  // On the thread itself: lets it sleep as shortly as asked, where Linux would add 50 us.
  SharedCore() { prctl(PR_SET_TIMERSLACK, 1); }

  // To be called between two items.
  void Offer() {
    const Clock::time_point now = Clock::now();
    if (now - since_ < kTurn) return;
    since_ = now;
    rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) != 0) return;
    if (usage.ru_nivcsw != taken_away_) not_wanted_ = 0;
    taken_away_ = usage.ru_nivcsw;
    if (not_wanted_ >= kOurs) return;
    // Sleeping, unlike yielding, leaves it to processes of other control groups as well.
    std::this_thread::sleep_for(kOffer);
    since_ = Clock::now();
    not_wanted_ = since_ - now < kNobodyCame ? not_wanted_ + 1 : 0;
  }

 private:
  static constexpr microseconds kTurn{1000};  // shorter than time slices of Linux
  static constexpr microseconds kOffer{10};
  static constexpr microseconds kNobodyCame{300};
  static constexpr int kOurs = 8;  // so many offers in a row that nobody took

  Clock::time_point since_{};  // has had the core since then, as far as it knows
  int64_t taken_away_ = 0;     // times that the scheduler took it
  int not_wanted_ = kOurs;     // offers in a row that nobody took
};

// Where the threads of a team run. With one busy process more than there are cores, Linux may leave
// two of them on one core and that process alone on another, for good: half of the team's speed.
class Cores {
 public:
  Cores() {
    for (std::atomic<int>& core : core_) core.store(kNone, std::memory_order_relaxed);
  }

  // Thread `thread` of `num_threads` runs here.
  void Note(int thread) { core_[thread].store(sched_getcpu(), std::memory_order_relaxed); }

  // The same, and moves the calling thread to another core if one with a lower number runs on its.
  void NoteApart(int thread, int num_threads) {
    Note(thread);
    for (int other = 0; other < thread; ++other) {
      if (Of(other) == Of(thread)) return Move(thread, num_threads);
    }
  }

 private:
  static constexpr int kNone = -1;

  int Of(int thread) const { return core_[thread].load(std::memory_order_relaxed); }

  void Move(int thread, int num_threads) {
    cpu_set_t allowed, free;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    free = allowed;
    for (int other = 0; other < num_threads; ++other) {
      if (const int core = Of(other); core != kNone) CPU_CLR(core, &free);
    }
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return;
    Note(thread);
    sched_setaffinity(0, sizeof allowed, &allowed);
  }

  std::array<std::atomic<int>, kMostThreads> core_;
};

thread_local bool in_loop = false;

// The threads of one calling thread. Loops are numbered; `next_` holds the number of the current
// one and its next item in one word, so that a thread that was away cannot take an item of a loop
// that is over. The fields of a loop change only while that word is closed, and are written and
// read in an order that makes taking fail for those who read a later loop's.
class Team {
 public:
  ~Team() {
    stop_.store(true, std::memory_order_relaxed);
    loop_.fetch_add(1, std::memory_order_release);
    loop_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void Run(int num_threads, const Items& items, void (*body)(void*, ItemRange, int),
           void* argument) {
    while (static_cast<int>(threads_.size()) < num_threads - 1) {
      threads_.emplace_back([this, thread = static_cast<int>(threads_.size()) + 1,
                             seen = loop_.load()] { Serve(thread, seen); });
    }
    const uint32_t loop = loop_.load(std::memory_order_relaxed) + 1;
    next_.store(Word(loop, kClosed), std::memory_order_relaxed);
    body_.store(body, std::memory_order_release);
    argument_.store(argument, std::memory_order_release);
    num_threads_.store(num_threads, std::memory_order_release);
    step_.store(static_cast<uint32_t>(items.step), std::memory_order_release);
    most_.store(static_cast<uint32_t>(std::min<int64_t>(items.most, items.count)),
                std::memory_order_release);
    const auto count = static_cast<uint32_t>(items.count);
    count_.store(count, std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    next_.store(Word(loop, 0), std::memory_order_release);
    cores_.Note(0);
    loop_.store(loop);  // before notify_all() looks for sleepers, hence in one order with all
    loop_.notify_all();
    Work(loop, 0, [] {});
    for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != count;) {
      AwaitChange(done_, done);
    }
  }

 private:
  static constexpr uint32_t kClosed = ~uint32_t{0};  // no loop has so many items

  static uint64_t Word(uint32_t loop, uint32_t item) { return uint64_t{loop} << 32 | item; }

  void Serve(int thread, uint32_t seen) {
    SharedCore core;
    for (;;) {
      AwaitChange(loop_, seen);
      seen = loop_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      const int num_threads = num_threads_.load(std::memory_order_acquire);
      if (thread >= num_threads) continue;
      cores_.NoteApart(thread, num_threads);
      Work(seen, thread, [&] { core.Offer(); });
    }
  }

  // Takes items of `loop` until there are none; calls between() after each range of them.
  template <typename Between>
  void Work(uint32_t loop, int thread, const Between& between) {
    in_loop = true;
    uint64_t next = next_.load(std::memory_order_acquire);
    for (;;) {
      const auto begin = static_cast<uint32_t>(next);
      const uint32_t count = count_.load(std::memory_order_acquire);
      if (next >> 32 != loop || begin >= count) break;
      const uint32_t end = begin + Share(count - begin);
      if (!next_.compare_exchange_weak(next, Word(loop, end), std::memory_order_acq_rel)) continue;
      body_.load(std::memory_order_relaxed)(argument_.load(std::memory_order_relaxed), {begin, end},
                                            thread);
      const uint32_t taken = end - begin;
      if (done_.fetch_add(taken, std::memory_order_acq_rel) + taken == count) done_.notify_one();
      between();
      next = next_.load(std::memory_order_acquire);
    }
    in_loop = false;
  }

  // How many of `rest` items to take next.
  uint32_t Share(uint32_t rest) const {
    const auto threads = static_cast<uint32_t>(num_threads_.load(std::memory_order_acquire));
    const uint32_t step = step_.load(std::memory_order_acquire);
    const uint32_t most = most_.load(std::memory_order_acquire);
    const uint32_t even = std::min(most, rest / (2 * threads)) / step * step;
    return std::min(rest, std::max(step, even));
  }

  std::vector<std::thread> threads_;
  Cores cores_;
  alignas(64) std::atomic<uint32_t> loop_{0};  // the number of the latest
  std::atomic<bool> stop_{false};
  std::atomic<void (*)(void*, ItemRange, int)> body_{nullptr};
  std::atomic<void*> argument_{nullptr};
  std::atomic<int> num_threads_{1};
  std::atomic<uint32_t> count_{0}, step_{1}, most_{1};
  alignas(64) std::atomic<uint64_t> next_{Word(0, kClosed)};
  alignas(64) std::atomic<uint32_t> done_{0};  // items
};

}  // namespace

void ForItems(int num_threads, const Items& items, void (*body)(void*, ItemRange, int),
              void* argument) {
  if (items.count <= 0) return;
  const int64_t ranges = (items.count + items.step - 1) / items.step;
  num_threads = static_cast<int>(std::min<int64_t>({num_threads, ranges, kMostThreads}));
  if (num_threads <= 1 || in_loop) return body(argument, {0, items.count}, 0);
  static thread_local Team team;
  team.Run(num_threads, items, body, argument);
}

}  // namespace lectern::kernels
