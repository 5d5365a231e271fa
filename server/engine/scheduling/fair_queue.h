// Shares the engine between tenants by virtual token counting (Sheng et al. 2024, "Fairness in
// Serving Large Language Models", arXiv 2401.00588, algorithm 2). Each tenant has a counter of the
// work done for it, and the smallest counter goes first. A tenant that arrives or returns starts at
// its old counter or at the smallest counter of the active tenants, whichever is larger, so that
// neither credit nor debt is changed by being away.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <string>

namespace lectern {

class FairQueue {
 public:
  // Called when a job of the tenant arrives, and when it ends.
  void Arrive(const std::string& tenant);
  void Leave(const std::string& tenant);

  // Charges `tokens` of work to a tenant that has jobs.
  void Charge(const std::string& tenant, double tokens);

  // The tenant's counter; 0 if it has no jobs. Smaller goes first.
  double CounterOf(const std::string& tenant) const;
  size_t tenants() const { return active_.size(); }
  // Tenants without jobs whose counters exceed the smallest one; at most 1024, the largest ones.
  size_t remembered() const { return away_.size(); }

 private:
  struct Share {
    double counter = 0;
    size_t jobs = 0;
  };
  double Least() const;
  void Remember(const std::string& tenant, double counter);

  std::map<std::string, Share> active_;
  std::map<std::string, double> away_;
  double floor_ = 0;  // the smallest counter when the last tenant left
};

}  // namespace lectern
