#include "server/engine/documents/owner_quotas.h"

#include "absl/strings/str_cat.h"
#include "base/error_details.h"

namespace lectern {
namespace {

constexpr size_t kRememberedIds = 4096;

}  // namespace

OwnerQuotas::Usage OwnerQuotas::UsageOf(const DocumentEntries& entries,
                                        const std::string& owner) const {
  Usage usage;
  if (const auto reserved = reserved_.find(owner); reserved != reserved_.end()) {
    usage = reserved->second;
  }
  for (const auto& [id, entry] : entries) {
    if (!entry.meta.holdings.contains(owner)) continue;
    usage.bytes += entry.held_bytes();
    ++usage.documents;
  }
  return usage;
}

absl::Status OwnerQuotas::Check(const DocumentEntries& entries, const std::string& owner,
                                uint64_t bytes) const {
  if (limits_.bytes == 0 && limits_.documents == 0) return absl::OkStatus();
  const Usage usage = UsageOf(entries, owner);
  const bool bytes_fit = limits_.bytes == 0 || usage.bytes + bytes <= limits_.bytes;
  const bool documents_fit = limits_.documents == 0 || usage.documents < limits_.documents;
  if (bytes_fit && documents_fit) return absl::OkStatus();
  // No retry_after: only the owner can make room.
  return MakeError(absl::StatusCode::kResourceExhausted,
                   bytes_fit
                       ? absl::StrCat("the tenant holds ", usage.documents, " of at most ",
                                      limits_.documents, " documents; delete some")
                       : absl::StrCat("the document's keys and values take ", bytes,
                                      " bytes, the tenant ", "holds ", usage.bytes, " of at most ",
                                      limits_.bytes, "; delete some documents"),
                   {.reason = "CLIENT_QUOTA",
                    .metadata = {{"bytes", absl::StrCat(bytes)},
                                 {"bytes_used", absl::StrCat(usage.bytes)},
                                 {"bytes_limit", absl::StrCat(limits_.bytes)},
                                 {"documents_used", absl::StrCat(usage.documents)},
                                 {"documents_limit", absl::StrCat(limits_.documents)}}});
}

bool OwnerQuotas::AllowsMore(const DocumentEntries& entries, const std::string& owner,
                             uint64_t bytes) const {
  return limits_.bytes == 0 || UsageOf(entries, owner).bytes + bytes <= limits_.bytes;
}

void OwnerQuotas::Reserve(const std::string& owner, uint64_t bytes) {
  Usage& reserved = reserved_[owner];
  reserved.bytes += bytes;
  ++reserved.documents;
}

void OwnerQuotas::Release(const std::string& owner, uint64_t bytes) {
  const auto usage = reserved_.find(owner);
  usage->second.bytes -= bytes;
  if (--usage->second.documents == 0) reserved_.erase(usage);
}

void OwnerQuotas::SetGone(const std::string& owner, const std::string& id) {
  if (!gone_.insert({owner, id}).second) return;
  gone_order_.emplace_back(owner, id);
  if (gone_order_.size() > kRememberedIds) {
    gone_.erase(gone_order_.front());
    gone_order_.pop_front();
  }
}

void OwnerQuotas::SetHeld(const std::string& owner, const std::string& id) {
  const Gone gone{owner, id};
  if (gone_.erase(gone) > 0) std::erase(gone_order_, gone);
}

}  // namespace lectern
