#include "kernels/parallel.h"

#include <omp.h>

#if defined(__SANITIZE_THREAD__)
#define LECTERN_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LECTERN_TSAN 1
#endif
#endif

#ifdef LECTERN_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace lectern::kernels {
namespace {

struct Team {
  void (*body)(void*, int, int);
  void* argument;
  char fork, join;  // addresses that ThreadSanitizer orders
};

void Acquire([[maybe_unused]] void* address) {
#ifdef LECTERN_TSAN
  __tsan_acquire(address);
#endif
}

void Release([[maybe_unused]] void* address) {
#ifdef LECTERN_TSAN
  __tsan_release(address);
#endif
}

// Not instrumented: what the compiler passes to the team is ordered by the fork itself.
__attribute__((no_sanitize("thread"))) void Fork(Team* team, int num_threads) {
#pragma omp parallel num_threads(num_threads) firstprivate(team)
  {
    Acquire(&team->fork);
    team->body(team->argument, omp_get_thread_num(), omp_get_num_threads());
    Release(&team->join);
  }
}

}  // namespace

void RunTeam(int num_threads, void (*body)(void* argument, int thread, int threads),
             void* argument) {
  if (num_threads <= 1) return body(argument, 0, 1);
  Team team{body, argument, 0, 0};
  Release(&team.fork);
  Fork(&team, num_threads);
  Acquire(&team.join);
}

void TeamBarrier(int threads) {
  if (threads <= 1) return;
  static char barrier;
  Release(&barrier);
#pragma omp barrier
  Acquire(&barrier);
}

}  // namespace lectern::kernels
