// The one way kernels use threads: an OpenMP team around a callable. Internal to kernels/.
//
// ThreadSanitizer does not see the futexes of libgomp; the fork, the join and the barrier are
// announced to it here, so that it reports only real races.
#pragma once

#include <cstdint>

namespace lectern::kernels {

// The index range of thread `thread` of `threads` when `count` items are shared out evenly.
struct ItemRange {
  int64_t begin = 0;
  int64_t end = 0;
};
inline ItemRange ShareOf(int64_t count, int thread, int threads) {
  return {count * thread / threads, count * (thread + 1) / threads};
}

// Calls body(argument, thread, threads) once on each thread of a team of at most `num_threads`
// (fewer inside another team), and returns when all are done. One thread costs a plain call.
void RunTeam(int num_threads, void (*body)(void* argument, int thread, int threads),
             void* argument);

// Waits for all threads of the team; every thread must call it. Memory written before is visible
// after.
void TeamBarrier(int threads);

template <typename Body>
void RunTeam(int num_threads, Body body) {
  RunTeam(
      num_threads,
      [](void* argument, int thread, int threads) {
        (*static_cast<Body*>(argument))(thread, threads);
      },
      &body);
}

}  // namespace lectern::kernels
