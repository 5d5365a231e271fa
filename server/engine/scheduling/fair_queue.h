// Who comes next: virtual token counting over tenants (Sheng et al. 2024, "Fairness in Serving
// Large Language Models", arXiv 2401.00588, algorithm 2). Each tenant has a counter of the work
// done for it; the smallest counter goes first. A tenant that comes (back) begins at its old
// counter or at the smallest of those who are there, whichever is larger: being away saves nothing
// up and forgives nothing.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <string>

namespace lectern {

class FairQueue {
 public:
  // Work of a tenant has come, or is over.
  void Arrive(const std::string& tenant);
  void Leave(const std::string& tenant);

  // `tokens` of work were done for a tenant that is there.
  void Charge(const std::string& tenant, double tokens);

  // Smaller goes first; 0 for who is not there.
  double CounterOf(const std::string& tenant) const;
  size_t tenants() const { return active_.size(); }
  // Tenants that left with more than the least counter; at most 1024, those who have had most.
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
  double floor_ = 0;  // the least counter when the last tenant left
};

}  // namespace lectern
