#include "server/rpc/call/serving_state.h"

#include <utility>

#include "base/error_details.h"
#include "protocol/reasons.h"

namespace lectern {

void ServingState::Set(ServerState state, std::string explanation) {
  // Held during both steps, so that watchers see changes in order.
  absl::MutexLock watch_lock(&watch_mutex_);
  {
    absl::MutexLock lock(&mutex_);
    state_ = state;
    explanation_ = std::move(explanation);
  }
  for (const auto& changed : watches_) changed(state);
}

void ServingState::SetEngine(Engine* engine) {
  absl::MutexLock lock(&mutex_);
  engine_ = engine;
}

ServerState ServingState::state() const {
  absl::MutexLock lock(&mutex_);
  return state_;
}

std::string ServingState::explanation() const {
  absl::MutexLock lock(&mutex_);
  return explanation_;
}

Engine* ServingState::engine() const {
  absl::MutexLock lock(&mutex_);
  return engine_;
}

absl::StatusOr<Engine*> ServingState::Serving() const {
  absl::MutexLock lock(&mutex_);
  if (engine_ != nullptr && (state_ == ServerState::kServing || state_ == ServerState::kDraining)) {
    return engine_;
  }
  const char* reason = state_ == ServerState::kWarmingUp ? "WARMING_UP"
                       : state_ == ServerState::kLoading ? "LOADING"
                                                         : kReasonDraining;
  return MakeError(absl::StatusCode::kUnavailable, explanation_,
                   {.reason = reason, .retry_after = absl::Seconds(1)});
}

ServingState::Watch ServingState::AddWatch(std::function<void(ServerState)> changed) {
  absl::MutexLock lock(&watch_mutex_);
  changed(state());
  return watches_.insert(watches_.end(), std::move(changed));
}

void ServingState::Unwatch(Watch watch) {
  absl::MutexLock lock(&watch_mutex_);
  watches_.erase(watch);
}

}  // namespace lectern
