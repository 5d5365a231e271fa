// The limits and reservations of owners, and the documents that they held once.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/engine/api.h"
#include "server/engine/documents/document_entry.h"

namespace lectern {

// Not thread-safe; guarded by DocumentStore.
class OwnerQuotas {
 public:
  explicit OwnerQuotas(const TenantLimits& limits) : limits_(limits) {}

  // RESOURCE_EXHAUSTED (CLIENT_QUOTA, with the figures) unless the owner may hold one more document
  // of `bytes` bytes of pages. Waiting does not help.
  absl::Status Check(const DocumentEntries& entries, const std::string& owner,
                     uint64_t bytes) const;
  // False if `bytes` more of a document that it holds would exceed the owner's limit.
  bool AllowsMore(const DocumentEntries& entries, const std::string& owner, uint64_t bytes) const;

  // Counts a document of `bytes` bytes that is being read, until Release().
  void Reserve(const std::string& owner, uint64_t bytes);
  void Release(const std::string& owner, uint64_t bytes);

  // Remembers that the owner held a document that has left, so that NOT_FOUND can say so. The
  // oldest of 4,096 are forgotten.
  void SetGone(const std::string& owner, const std::string& id);
  void SetHeld(const std::string& owner, const std::string& id);
  bool IsGone(const std::string& owner, const std::string& id) const {
    return gone_.contains({owner, id});
  }

 private:
  struct Usage {
    uint64_t bytes = 0;
    uint64_t documents = 0;
  };
  using Gone = std::pair<std::string, std::string>;  // owner, id

  // Counts what is reserved and what is held.
  Usage UsageOf(const DocumentEntries& entries, const std::string& owner) const;

  const TenantLimits limits_;
  std::map<std::string, Usage> reserved_;  // by owner
  std::deque<Gone> gone_order_;
  std::set<Gone> gone_;
};

}  // namespace lectern
