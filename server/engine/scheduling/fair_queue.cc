#include "server/engine/scheduling/fair_queue.h"

#include <algorithm>
#include <limits>

namespace lectern {
namespace {

constexpr size_t kMostRemembered = 1024;

}  // namespace

double FairQueue::Least() const {
  if (active_.empty()) return floor_;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [tenant, share] : active_) least = std::min(least, share.counter);
  return least;
}

void FairQueue::Arrive(const std::string& tenant) {
  const double least = Least();
  const auto [entry, is_new] = active_.try_emplace(tenant);
  if (is_new) {
    entry->second.counter = least;
    if (const auto away = away_.find(tenant); away != away_.end()) {
      entry->second.counter = std::max(least, away->second);
      away_.erase(away);
    }
  }
  ++entry->second.jobs;
}

void FairQueue::Leave(const std::string& tenant) {
  const auto entry = active_.find(tenant);
  if (entry == active_.end() || --entry->second.jobs > 0) return;
  const double counter = entry->second.counter;
  floor_ = Least();
  active_.erase(entry);
  Remember(tenant, counter);
}

void FairQueue::Remember(const std::string& tenant, double counter) {
  const double least = Least();
  std::erase_if(away_, [least](const auto& away) { return away.second <= least; });
  if (counter <= least) return;
  away_.emplace(tenant, counter);
  if (away_.size() <= kMostRemembered) return;
  away_.erase(std::min_element(away_.begin(), away_.end(),
                               [](const auto& a, const auto& b) { return a.second < b.second; }));
}

void FairQueue::Charge(const std::string& tenant, double tokens) {
  const auto entry = active_.find(tenant);
  if (entry != active_.end()) entry->second.counter += tokens;
}

double FairQueue::CounterOf(const std::string& tenant) const {
  const auto entry = active_.find(tenant);
  return entry == active_.end() ? 0 : entry->second.counter;
}

}  // namespace lectern
