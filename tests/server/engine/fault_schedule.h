// What the engine's fault points (server/engine/fault_points.h) do in a test: every one takes a
// little time, by a pseudo-random sequence, and one of them holds who comes there until the test
// lets it go on.
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

// Thread-safe. At work from its construction to its destruction; one at a time. The engine must be
// gone before it.
class FaultSchedule {
 public:
  explicit FaultSchedule(uint64_t seed);
  ~FaultSchedule();
  FaultSchedule(const FaultSchedule&) = delete;
  FaultSchedule& operator=(const FaultSchedule&) = delete;

  // The `visit`-th thread, from 1, that comes to `point` from now on stands still there. One hold.
  void HoldAt(Fault point, int visit);
  // False if nobody came for a minute.
  bool WaitUntilHeld();
  // Lets it go on, or fail with `result` where the point can fail.
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
