#include "server/engine/documents/single_flight.h"

#include <algorithm>

namespace lectern {

bool SingleFlight::IsTaken(const Key& key) const {
  return std::find(keys_.begin(), keys_.end(), key) != keys_.end();
}

Task<absl::StatusOr<SingleFlight::Turn>> SingleFlight::FindOrBegin(
    Key key, std::function<absl::StatusOr<bool>()> find, StepOwner owner) {
  while (true) {
    const absl::StatusOr<bool> found = find();
    if (!found.ok()) co_return found.status();
    if (*found) co_return Turn();
    if (!IsTaken(key)) break;
    std::function<bool()> over = [this, &key] { return !IsTaken(key); };
    const absl::Status waited = co_await scheduler_->WaitUntil(std::move(over), owner);
    if (!waited.ok()) co_return waited;
  }
  keys_.push_back(key);
  co_return Turn(this, std::move(key));
}

}  // namespace lectern
