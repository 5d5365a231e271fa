#include "kernels/runtime/thread_team.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/runtime/core_sharing.h"

namespace lectern::kernels {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// The loops of a model step follow each other within this time; threads sleep through longer
// pauses.
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

thread_local bool in_loop = false;

// The threads of one calling thread. Loops are numbered; `next_` holds the number of the current
// loop and its next item in one word, so that a thread that was away cannot take an item of a loop
// that is over. The fields of a loop change only while that word is closed, and they are written
// and read in an order that makes taking an item fail for a thread that read a later loop's fields.
class ThreadTeam {
 public:
  ~ThreadTeam() {
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
    cores_.Record(0);
    loop_.store(loop);  // sequentially consistent: notify_all() looks for sleepers after it
    loop_.notify_all();
    Work(loop, 0, [] {});
    for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != count;) {
      AwaitChange(done_, done);
    }
  }

 private:
  static constexpr uint32_t kClosed = ~uint32_t{0};  // more items than any loop has

  static uint64_t Word(uint32_t loop, uint32_t item) { return uint64_t{loop} << 32 | item; }

  void Serve(int thread, uint32_t seen) {
    CoreOffer core;
    for (;;) {
      AwaitChange(loop_, seen);
      seen = loop_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      const int num_threads = num_threads_.load(std::memory_order_acquire);
      if (thread >= num_threads) continue;
      cores_.RecordApart(thread, num_threads);
      Work(seen, thread, [&] { core.Offer(); });
    }
  }

  // Takes items of `loop` until none is left; calls between() after each range.
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

  // The number of items to take next when `rest` are left.
  uint32_t Share(uint32_t rest) const {
    const auto threads = static_cast<uint32_t>(num_threads_.load(std::memory_order_acquire));
    const uint32_t step = step_.load(std::memory_order_acquire);
    const uint32_t most = most_.load(std::memory_order_acquire);
    const uint32_t even = std::min(most, rest / (2 * threads)) / step * step;
    return std::min(rest, std::max(step, even));
  }

  std::vector<std::thread> threads_;
  TeamCores cores_;
  alignas(64) std::atomic<uint32_t> loop_{0};  // the number of the latest loop
  std::atomic<bool> stop_{false};
  std::atomic<void (*)(void*, ItemRange, int)> body_{nullptr};
  std::atomic<void*> argument_{nullptr};
  std::atomic<int> num_threads_{1};
  std::atomic<uint32_t> count_{0}, step_{1}, most_{1};
  alignas(64) std::atomic<uint64_t> next_{Word(0, kClosed)};
  alignas(64) std::atomic<uint32_t> done_{0};  // items that are finished
};

}  // namespace

void ForItems(int num_threads, const Items& items, void (*body)(void*, ItemRange, int),
              void* argument) {
  if (items.count <= 0) return;
  const int64_t ranges = (items.count + items.step - 1) / items.step;
  num_threads = static_cast<int>(std::min<int64_t>({num_threads, ranges, kMaxTeamThreads}));
  if (num_threads <= 1 || in_loop) return body(argument, {0, items.count}, 0);
  static thread_local ThreadTeam team;
  team.Run(num_threads, items, body, argument);
}

}  // namespace lectern::kernels
