// The one way to run a loop on several threads: a team works off its items together. For kernels,
// and for loading models (server/model/layers/linear_loader.h).
//
// Each calling thread has its own team. Between loops the team's threads wait, awake for a moment
// and then asleep. A loop waits only for items, never for a thread: each thread takes the next
// items when it is free, and a thread that has no core takes none. Between two items a thread
// leaves its core to other processes that want it (core_sharing.h), before it would be preempted
// within one.
#pragma once

#include <cstdint>
#include <limits>

namespace lectern::kernels {

struct ItemRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// The items of a loop, and how they are handed out: in ranges that begin at a multiple of `step`
// and hold at most `most` of them; large ones first, so that memory is read in long streams.
struct Items {
  int64_t count = 0;  // below 2^31
  int64_t step = 1;
  int64_t most = std::numeric_limits<int64_t>::max();
};

// Calls body(argument, range, thread) for ranges that cover the items, each once, on at most
// `num_threads` threads, and returns when all are done. The body sees everything written before the
// call, and the caller sees everything the body wrote. `thread` is in [0, num_threads); the caller
// is thread 0. Which thread gets which range is not fixed, so results must not depend on it. Inside
// the body of another loop, and with one thread, it is one plain call.
void ForItems(int num_threads, const Items& items,
              void (*body)(void* argument, ItemRange range, int thread), void* argument);

template <typename Body>
void ForItems(int num_threads, const Items& items, Body body) {
  ForItems(
      num_threads, items,
      [](void* argument, ItemRange range, int thread) {
        (*static_cast<Body*>(argument))(range, thread);
      },
      &body);
}

}  // namespace lectern::kernels
