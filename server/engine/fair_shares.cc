#include "server/engine/fair_shares.h"

#include <algorithm>
#include <limits>

namespace lectern {

double FairShares::Least() const {
  if (active_.empty()) return floor_;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [tenant, share] : active_) least = std::min(least, share.counter);
  return least;
}

void FairShares::Arrive(const std::string& tenant) {
  const double least = Least();
  const auto [entry, is_new] = active_.try_emplace(tenant);
  if (is_new) entry->second.counter = least;
  ++entry->second.jobs;
}

void FairShares::Leave(const std::string& tenant) {
  const auto entry = active_.find(tenant);
  if (entry == active_.end() || --entry->second.jobs > 0) return;
  floor_ = Least();
  active_.erase(entry);
}

void FairShares::Charge(const std::string& tenant, double tokens) {
  const auto entry = active_.find(tenant);
  if (entry != active_.end()) entry->second.counter += tokens;
}

double FairShares::CounterOf(const std::string& tenant) const {
  const auto entry = active_.find(tenant);
  return entry == active_.end() ? 0 : entry->second.counter;
}

}  // namespace lectern
