// A thread for work that takes long and is no model step: tokenising, reading files.
#pragma once

#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace lectern {

// Thread-safe. The destructor drops work that has not begun and waits for work that has.
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

  // Runs work in the order of the calls. The queue is bounded by the number of running jobs, since
  // each job waits for its work.
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
