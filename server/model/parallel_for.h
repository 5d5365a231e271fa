// Runs independent pieces of work on a few threads: loading a model, nothing that repeats.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace lectern {

// Calls work(task) -> absl::Status for every task of [0, tasks), in any order, from up to `threads`
// threads, the calling one included. Stops handing out tasks after a failure, which is returned
// (the first one, when several fail). A work that runs out of memory fails with RESOURCE_EXHAUSTED.
template <typename Work>
absl::Status ParallelFor(int64_t tasks, int threads, const Work& work) {
  std::atomic<int64_t> next = 0;
  Mutex mutex;
  absl::Status result;
  const auto run = [&] {
    for (int64_t task = next++; task < tasks; task = next++) {
      absl::Status status;
      try {
        status = work(task);
      } catch (const std::bad_alloc&) {
        status = absl::ResourceExhaustedError("out of memory");
      }
      if (status.ok()) continue;
      next = tasks;
      const MutexLock lock(&mutex);
      result.Update(status);
    }
  };
  std::vector<std::thread> others;
  for (int64_t i = 1; i < std::min<int64_t>(threads, tasks); ++i) others.emplace_back(run);
  run();
  for (std::thread& thread : others) thread.join();
  return result;
}

}  // namespace lectern
