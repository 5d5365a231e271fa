// A door that a test closes to hold another thread at a known place.
#pragma once

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace lectern {

// Thread-safe. Open at first.
class Gate {
 public:
  // Visitors wait from now on.
  void Close() {
    MutexLock lock(&mutex_);
    closed_ = true;
    permits_ = 0;
  }
  // Everyone who waits, and all later visitors, pass.
  void Open() {
    MutexLock lock(&mutex_);
    closed_ = false;
  }
  // Lets one more visitor pass, now or later.
  void AllowOne() {
    MutexLock lock(&mutex_);
    ++permits_;
  }
  // Lets one visitor pass and returns once it has.
  void LetOnePass() {
    MutexLock lock(&mutex_);
    ++permits_;
    mutex_.Await([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return permits_ == 0; });
  }
  // Returns when somebody waits at the closed gate.
  void WaitForVisitor() {
    MutexLock lock(&mutex_);
    mutex_.Await([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return waiting_ > 0; });
  }

  void Pass() {
    MutexLock lock(&mutex_);
    if (!closed_) return;
    ++waiting_;
    mutex_.Await([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return MayPass(); });
    --waiting_;
    if (closed_) --permits_;
  }

 private:
  bool MayPass() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !closed_ || permits_ > 0; }

  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int permits_ ABSL_GUARDED_BY(mutex_) = 0;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lectern
