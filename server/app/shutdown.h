// Turns SIGTERM and SIGINT into events: blocks them in all threads and waits for them in one.
#pragma once

#include <atomic>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace lectern {

// Create it before any other thread. The first signal ends Wait(); the second one ends the process
// at once with exit status 1.
class ShutdownSignals {
 public:
  ShutdownSignals();
  ~ShutdownSignals();

  void Wait() ABSL_LOCKS_EXCLUDED(mutex_);
  bool requested() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Until this is called, the first signal ends the process at once with exit status 0: there is
  // nothing to drain while models load.
  void StartDraining() { draining_ = true; }

 private:
  void Listen();
  mutable absl::Mutex mutex_;
  bool requested_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> draining_{false};
  std::atomic<bool> stop_{false};
  std::thread listener_;
};

}  // namespace lectern
