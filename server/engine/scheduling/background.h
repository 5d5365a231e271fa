// One thread for work that takes long and is no model step: tokenising, files.
#pragma once

#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace lectern {

// Thread-safe. The destructor drops what has not begun and waits for what has.
class BackgroundThread {
 public:
  BackgroundThread() : thread_([this] { Loop(); }) {}
  ~BackgroundThread() {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
    }
    thread_.join();
  }

  // In the order of the calls. Bounded by the number of running jobs, each of which waits for it.
  void Run(std::function<void()> work) {
    MutexLock lock(&mutex_);
    work_.push_back(std::move(work));
  }

 private:
  void Loop() {
    while (true) {
      std::function<void()> work;
      {
        MutexLock lock(&mutex_);
        mutex_.Await([this]()
                         ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !work_.empty(); });
        if (stopping_) return;
        work = std::move(work_.front());
        work_.pop_front();
      }
      work();
    }
  }

  Mutex mutex_;
  std::deque<std::function<void()>> work_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lectern
