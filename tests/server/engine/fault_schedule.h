// Controls the engine's fault points (server/engine/fault_points.h) in a test: every point is
// delayed a little, by a pseudo-random sequence, and one of them holds the thread that reaches it
// until the test releases it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/engine/fault_points.h"

namespace lectern {

// Thread-safe. Active from construction to destruction; only one may exist at a time. The engine
// must be destroyed first.
class FaultSchedule {
 public:
  explicit FaultSchedule(uint64_t seed);
  ~FaultSchedule();
  FaultSchedule(const FaultSchedule&) = delete;
  FaultSchedule& operator=(const FaultSchedule&) = delete;

  // Holds the `visit`-th thread, from 1, that reaches `point` from now on. There is one hold.
  void HoldAt(Fault point, int visit);
  // False if no thread came for a minute.
  bool WaitUntilHeld();
  // Lets the held thread go on, or fail with `result` where the point can fail.
  void Release(absl::Status result = absl::OkStatus());

  absl::Status Reach(Fault point);

 private:
  static constexpr size_t kPoints = static_cast<size_t>(Fault::kTell) + 1;
  struct Hold {
    Fault point;
    int visits_left;
    bool held = false;
    std::optional<absl::Status> result;  // set: released
  };
  absl::Duration NextDelay(Fault point) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t seed_;
  Mutex mutex_;
  std::array<uint64_t, kPoints> visits_ ABSL_GUARDED_BY(mutex_) = {};
  std::optional<Hold> hold_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
