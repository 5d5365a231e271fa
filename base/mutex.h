// A mutex with clang's thread-safety annotations on top of std::mutex.
//
// It is used instead of absl::Mutex because Debian's Abseil is a shared library without
// ThreadSanitizer's hooks, so that every access under an absl::Mutex looks like a race there. The
// sanitizer understands the C library's locks.
#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace lectern {

// Every Unlock() wakes the threads that wait for a condition, as with absl::Mutex.
class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    // Under the lock: once it is free, a waiter may go on and destroy this mutex.
    if (waiters_ > 0) changed_.notify_all();
    mutex_.unlock();
  }

  // Return with the lock held, when `ready()` is true; it is called with the lock held.
  template <typename Ready>
  void Await(const Ready& ready) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    AwaitUntil(absl::InfiniteFuture(), ready);
  }
  // Returns ready(), which is false only if `deadline` came first.
  template <typename Ready>
  bool AwaitUntil(absl::Time deadline, const Ready& ready) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
    // Waiting gives the lock up as Unlock() does.
    if (waiters_ > 0) changed_.notify_all();
    ++waiters_;
    bool is_ready = true;
    if (deadline == absl::InfiniteFuture()) {
      changed_.wait(lock, ready);
    } else {
      is_ready = changed_.wait_until(lock, absl::ToChronoTime(deadline), ready);
    }
    --waiters_;
    lock.release();
    return is_ready;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiters_ = 0;  // guarded by mutex_
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

}  // namespace lectern
