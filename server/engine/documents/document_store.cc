#include "server/engine/documents/document_store.h"

#include <algorithm>
#include <utility>

#include "base/error_details.h"
#include "base/status_macros.h"
#include "protocol/reasons.h"
#include "server/engine/documents/document_listing.h"

namespace lectern {
namespace {

// Readings and policies whose pages are kept in memory for one document.
constexpr size_t kMaxReads = 4;
// A document's last use is written to disk if it differs by more than this.
constexpr absl::Duration kUseGrain = absl::Minutes(1);

}  // namespace

DocumentStore::DocumentStore(const Clock* clock, ServerMetrics* metrics,
                             DocumentStoreOptions options)
    : clock_(clock),
      metrics_(metrics),
      options_(std::move(options)),
      cache_(options_.cache.directory.empty()
                 ? nullptr
                 : std::make_unique<DocumentCache>(options_.cache, options_.models, metrics)),
      quotas_(options_.tenant_limits) {
  if (cache_ == nullptr) return;
  SaverClient* const client = this;
  saver_ = std::make_unique<DocumentSaver>(cache_.get(), client, metrics);
  saver_->Start();
}

DocumentStore::~DocumentStore() {
  if (saver_ != nullptr) saver_->Stop();
}

bool DocumentStore::Flush() { return saver_ == nullptr || saver_->Flush(); }

DocumentStore::Reservation& DocumentStore::Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  Release();
  store_ = std::exchange(other.store_, nullptr);
  owner_ = std::move(other.owner_);
  bytes_ = other.bytes_;
  return *this;
}

void DocumentStore::Reservation::Release() {
  if (store_ == nullptr) return;
  MutexLock lock(&store_->mutex_);
  store_->quotas_.Release(owner_, bytes_);
  store_ = nullptr;
}

// A document that was deleted while the lease was held, or deleted and uploaded again, is not
// found.
DocumentEntry* DocumentStore::EntryOf(const Lease& lease) {
  const auto found = entries_.find(lease.id_);
  const bool same = found != entries_.end() && found->second.hold == lease.hold_;
  return same ? &found->second : nullptr;
}

std::shared_ptr<const DocumentKv> DocumentStore::Find(const Lease& lease, ReadingMode reading,
                                                      const AttentionPolicy& policy) {
  MutexLock lock(&mutex_);
  const DocumentEntry* const entry = EntryOf(lease);
  return FindKv(entry != nullptr ? entry->reads : lease.reads_, reading, policy);
}

absl::Status DocumentStore::Missing(const std::string& id, const std::string& owner) const {
  const bool was_here = quotas_.IsGone(owner, id);
  metrics_->DocumentLookup(was_here ? LookupResult::kEvicted : LookupResult::kMiss);
  return MakeError(
      absl::StatusCode::kNotFound,
      was_here ? "the document is no longer held; upload it again" : "there is no such document",
      {.reason = was_here ? kReasonDocumentEvicted : kReasonDocumentNotFound,
       .resource_type = "document",
       .resource_name = id});
}

DocumentEntries::iterator DocumentStore::FindLive(const std::string& id, const std::string& owner) {
  Expire(clock_->Now());
  const auto entry = entries_.find(id);
  if (entry == entries_.end() || !entry->second.meta.holdings.contains(owner))
    return entries_.end();
  return entry;
}

Ownership& DocumentStore::Hold(DocumentEntry& entry, const DocumentOptions& options) {
  const absl::Time now = clock_->Now();
  Ownership& holding =
      entry.meta.holdings
          .try_emplace(options.owner,
                       Ownership{.title = options.title, .created = now, .expires = now})
          .first->second;
  holding.pinned |= options.pinned;
  holding.expires =
      std::max(holding.expires, options.ttl == absl::InfiniteDuration() ? absl::InfiniteFuture()
                                                                        : now + options.ttl);
  next_expiry_ = std::min(next_expiry_, holding.expires);
  entry.last_used = now;
  quotas_.SetHeld(options.owner, entry.meta.identity.id);
  SetUnsaved(entry.meta.identity.id);
  return holding;
}

absl::Status DocumentStore::CheckQuota(const std::string& owner, uint64_t bytes) const {
  const absl::Status checked = quotas_.Check(entries_, owner, bytes);
  if (!checked.ok()) metrics_->Rejected(AdmissionReason::kClientQuota);
  return checked;
}

void DocumentStore::SetUnsaved(const std::string& id) {
  if (saver_ != nullptr) saver_->SetUnsaved(id);
}

void DocumentStore::Publish() const {
  uint64_t bytes = 0;
  uint64_t resident = 0;
  for (const auto& [id, entry] : entries_) {
    bytes += entry.bytes();
    if (entry.content != nullptr) ++resident;
  }
  metrics_->SetDocuments(resident, bytes);
}

void DocumentStore::Remove(DocumentEntries::iterator entry, EvictionReason reason) {
  if (entry->second.content != nullptr) metrics_->DocumentEvicted(reason);
  if (entry->second.on_disk) metrics_->DocumentEvicted(reason, CacheTier::kDisk);
  if (saver_ != nullptr) saver_->SetRemoved(entry->first);
  for (const auto& [owner, holding] : entry->second.meta.holdings) {
    quotas_.SetGone(owner, entry->first);
  }
  entries_.erase(entry);
  Publish();
}

DocumentStore::Lease DocumentStore::LeaseOf(const DocumentEntry& entry) {
  Lease lease;
  lease.id_ = entry.meta.identity.id;
  lease.model_ = entry.model;
  lease.tokens_ = entry.meta.tokens;
  lease.reading_ = entry.meta.reading;
  lease.content_ = entry.content;
  lease.hold_ = entry.hold;
  lease.reads_ = entry.reads;
  return lease;
}

absl::StatusOr<DocumentStore::Lease> DocumentStore::Use(const std::string& id,
                                                        const std::string& owner) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id, owner);
  if (entry == entries_.end()) return Missing(id, owner);
  metrics_->DocumentLookup(LookupResult::kHit);
  DocumentEntry& document = entry->second;
  document.last_used = clock_->Now();
  if (document.last_used - document.last_saved > kUseGrain) SetUnsaved(id);
  return LeaseOf(document);
}

bool DocumentStore::Has(const std::string& id, const std::string& owner) {
  MutexLock lock(&mutex_);
  return FindLive(id, owner) != entries_.end();
}

absl::StatusOr<DocumentStore::Reservation> DocumentStore::Reserve(const std::string& owner,
                                                                  const std::string& id,
                                                                  uint64_t bytes) {
  MutexLock lock(&mutex_);
  Reservation reservation;
  if (FindLive(id, owner) != entries_.end()) return reservation;
  LECTERN_RETURN_IF_ERROR(CheckQuota(owner, bytes));
  quotas_.Reserve(owner, bytes);
  reservation.store_ = this;
  reservation.owner_ = owner;
  reservation.bytes_ = bytes;
  return reservation;
}

DocumentInfo DocumentStore::Put(std::shared_ptr<const DocumentContent> content,
                                std::shared_ptr<const DocumentKv> read,
                                const DocumentOptions& options) {
  MutexLock lock(&mutex_);
  DocumentEntry& entry = entries_[content->id];
  if (entry.model == nullptr) {
    entry.meta = MetaOf(*content, read->reading);
    entry.model = content->model;
  }
  if (entry.content == nullptr) entry.content = std::move(content);
  const Ownership& holding = Hold(entry, options);
  AddReadTo(entry, std::move(read));
  Publish();
  return InfoOf(entry, holding);
}

absl::StatusOr<std::optional<DocumentInfo>> DocumentStore::Renew(const std::string& id,
                                                                 const DocumentOptions& options) {
  MutexLock lock(&mutex_);
  Expire(clock_->Now());
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return std::nullopt;
  DocumentEntry& document = entry->second;
  if (!document.meta.holdings.contains(options.owner)) {
    LECTERN_RETURN_IF_ERROR(CheckQuota(options.owner, document.held_bytes()));
  }
  return InfoOf(document, Hold(document, options));
}

void DocumentStore::AddReadTo(DocumentEntry& entry, std::shared_ptr<const DocumentKv> read) {
  if (FindKv(entry.reads, read->reading, read->policy) != nullptr) return;
  if (!entry.IsSaved(*read)) SetUnsaved(entry.meta.identity.id);
  if (entry.reads.size() >= kMaxReads) entry.reads.erase(entry.reads.begin());
  entry.reads.push_back(std::move(read));
}

void DocumentStore::AddRead(const std::string& id, std::shared_ptr<const DocumentKv> read) {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  if (entry->second.content == nullptr) return;  // evicted in the meantime
  const bool more = FindKv(entry->second.reads, read->reading, read->policy) == nullptr &&
                    !entry->second.IsSaved(*read);
  for (const auto& [owner, holding] : entry->second.meta.holdings) {
    if (more && !quotas_.AllowsMore(entries_, owner, read->bytes())) return;
  }
  AddReadTo(entry->second, std::move(read));
  Publish();
}

absl::StatusOr<DocumentInfo> DocumentStore::Get(const std::string& id, const std::string& owner) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id, owner);
  if (entry == entries_.end()) return Missing(id, owner);
  return InfoOf(entry->second, entry->second.meta.holdings.at(owner));
}

absl::StatusOr<DocumentPage> DocumentStore::List(uint32_t page_size, const std::string& page_token,
                                                 const std::string& model,
                                                 const std::string& owner) {
  const ListRequest request{page_size, page_token, model, owner};
  LECTERN_RETURN_IF_ERROR(CheckListRequest(request));
  MutexLock lock(&mutex_);
  Expire(clock_->Now());
  return ListPage(entries_, request);
}

absl::StatusOr<uint64_t> DocumentStore::Delete(const std::string& id, const std::string& owner) {
  uint64_t freed = 0;
  {
    MutexLock lock(&mutex_);
    const auto entry = FindLive(id, owner);
    if (entry == entries_.end()) return Missing(id, owner);
    DocumentEntry& document = entry->second;
    document.meta.holdings.erase(owner);
    if (document.meta.holdings.empty()) {
      if (!document.in_use()) freed = document.bytes();
      Remove(entry, EvictionReason::kDeleted);
    }
  }
  if (saver_ == nullptr) return freed;
  const absl::Status status = saver_->SaveOwners(id);
  saver_->Publish();
  LECTERN_RETURN_IF_ERROR(status);
  return freed;
}

void DocumentStore::Expire(absl::Time now) {
  if (now < next_expiry_) return;
  next_expiry_ = absl::InfiniteFuture();
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    auto& holdings = entry->second.meta.holdings;
    const size_t before = holdings.size();
    std::erase_if(holdings, [&](const auto& holding) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      if (holding.second.expires <= now) {
        quotas_.SetGone(holding.first, entry->first);
        return true;
      }
      next_expiry_ = std::min(next_expiry_, holding.second.expires);
      return false;
    });
    if (holdings.size() < before) SetUnsaved(entry->first);
    if (holdings.empty()) Remove(entry, EvictionReason::kTtl);
    entry = next;
  }
}

void DocumentStore::DropExpired() {
  MutexLock lock(&mutex_);
  Expire(clock_->Now());
}

bool DocumentStore::AnyInUse() const {
  MutexLock lock(&mutex_);
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const auto& entry) { return entry.second.in_use(); });
}

uint64_t DocumentStore::size() const {
  MutexLock lock(&mutex_);
  return entries_.size();
}

}  // namespace lectern
