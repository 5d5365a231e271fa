// The one way kernels use threads: a loop over items that a team of threads works off together.
// Internal to kernels/.
//
// Each calling thread has a team of its own, whose threads wait between loops, for a moment awake
// and then asleep. A loop never waits for a thread, only for items: whoever is there takes the next
// ones, and a thread that has no core just now takes none. A thread whose core others want too
// leaves it to them between two items, before it would be made to leave within one
// (docs/measurements/peers.md, "Beside a busy process").
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
// `num_threads` threads, and returns when all are done; what was written before is visible in the
// body, and what the body wrote is visible after. `thread` is in [0, num_threads), the caller is 0.
// Which thread gets which range is not fixed, so results must not depend on it. Inside another
// loop's body, and with one thread, it is one plain call.
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
