// A clock that moves only when a test moves it.
#pragma once

#include "absl/base/thread_annotations.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace lectern {

// Thread-safe.
class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'000'000) + Steady(); }
  absl::Duration Steady() const override {
    MutexLock lock(&mutex_);
    return elapsed_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(&mutex_);
    elapsed_ += by;
  }

 private:
  mutable Mutex mutex_;
  absl::Duration elapsed_ ABSL_GUARDED_BY(mutex_) = absl::Seconds(1);
};

}  // namespace lectern
