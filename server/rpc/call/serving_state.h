// Whether the server takes calls, the explanation, and the engine once it exists.
#pragma once

#include <functional>
#include <list>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "server/engine/engine.h"

namespace lectern {

// kStopped: nothing runs any more; streams that would otherwise never end (health watches) end.
enum class ServerState { kLoading, kWarmingUp, kServing, kDraining, kStopped };

// Thread-safe. Outlives the gRPC server.
class ServingState {
 public:
  void Set(ServerState state, std::string explanation) ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls reach the engine from now on. It must outlive the gRPC server.
  void SetEngine(Engine* engine) ABSL_LOCKS_EXCLUDED(mutex_);

  ServerState state() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::string explanation() const ABSL_LOCKS_EXCLUDED(mutex_);
  Engine* engine() const ABSL_LOCKS_EXCLUDED(mutex_);  // null while models load

  // Returns the engine, or UNAVAILABLE (LOADING, WARMING_UP) with RetryInfo. While draining, the
  // engine itself refuses new work.
  absl::StatusOr<Engine*> Serving() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `changed` at once and on every change of state until Unwatch(). `changed` must not call
  // this object.
  using Watch = std::list<std::function<void(ServerState)>>::iterator;
  Watch AddWatch(std::function<void(ServerState)> changed) ABSL_LOCKS_EXCLUDED(watch_mutex_);
  void Unwatch(Watch watch) ABSL_LOCKS_EXCLUDED(watch_mutex_);

 private:
  mutable absl::Mutex mutex_;
  ServerState state_ ABSL_GUARDED_BY(mutex_) = ServerState::kLoading;
  std::string explanation_ ABSL_GUARDED_BY(mutex_) = "models are being loaded";
  Engine* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Mutex watch_mutex_;
  std::list<std::function<void(ServerState)>> watches_ ABSL_GUARDED_BY(watch_mutex_);
};

}  // namespace lectern
