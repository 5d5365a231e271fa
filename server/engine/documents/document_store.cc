#include "server/engine/documents/document_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

constexpr size_t kMaxReads = 4;
constexpr size_t kRememberedIds = 4096;
// How exactly the disk knows of a document's last use.
constexpr absl::Duration kUseGrain = absl::Minutes(1);
constexpr uint32_t kDefaultPageSize = 100;
constexpr uint32_t kMaxPageSize = 1000;

std::shared_ptr<const DocumentKv> FindPolicy(
    const std::vector<std::shared_ptr<const DocumentKv>>& reads, ReadingMode reading,
    const AttentionPolicy& policy) {
  for (const auto& read : reads) {
    if (read->reading == reading && read->policy == policy) return read;
  }
  return nullptr;
}

CacheMeta MetaOf(const DocumentContent& content, ReadingMode reading) {
  const ModelInfo& info = content.model->info();
  return {.identity = {.id = content.id, .fingerprint = info.fingerprint},
          .model = info.name,
          .sha256 = content.sha256,
          .text_bytes = content.text.size(),
          .tokens = content.encoding.ids.size(),
          .chunks = content.chunks.size(),
          .reading = reading};
}

}  // namespace

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
  const auto usage = store_->reserved_.find(owner_);
  usage->second.bytes -= bytes_;
  if (--usage->second.documents == 0) store_->reserved_.erase(usage);
  store_ = nullptr;
}

bool DocumentStore::Entry::pinned() const {
  return std::any_of(meta.holdings.begin(), meta.holdings.end(),
                     [](const auto& holding) { return holding.second.pinned; });
}

uint64_t DocumentStore::Entry::bytes() const {
  uint64_t bytes = 0;
  for (const auto& read : reads) bytes += read->bytes();
  return bytes;
}

uint64_t DocumentStore::Entry::held_bytes() const {
  uint64_t bytes = 0;
  for (const auto& read : reads) {
    if (!IsSaved(*read)) bytes += read->bytes();
  }
  for (const StoredRead& read : saved) bytes += read.device_bytes;
  return bytes;
}

bool DocumentStore::Entry::IsSaved(const DocumentKv& read) const {
  return std::any_of(saved.begin(), saved.end(), [&](const StoredRead& stored) {
    return stored.reading == read.reading && stored.policy == read.policy;
  });
}

std::shared_ptr<const DocumentKv> DocumentStore::Find(const Lease& lease, ReadingMode reading,
                                                      const AttentionPolicy& policy) const {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(lease.id_);
  const bool same = entry != entries_.end() && entry->second.hold == lease.hold_;
  return FindPolicy(same ? entry->second.reads : lease.reads_, reading, policy);
}

DocumentInfo DocumentStore::InfoOf(const Entry& entry, const Holding& holding) {
  DocumentInfo info{.id = entry.meta.identity.id,
                    .title = holding.title,
                    .model = entry.meta.model,
                    .bytes = entry.meta.text_bytes,
                    .tokens = entry.meta.tokens,
                    .chunks = static_cast<uint32_t>(
                        entry.meta.reading == ReadingMode::kChunks ? entry.meta.chunks : 1),
                    .device_bytes = entry.bytes(),
                    .sha256 = entry.meta.sha256,
                    .create_time = holding.created,
                    .last_use_time = entry.last_used,
                    .expire_time = holding.expires,
                    .pinned = holding.pinned,
                    .reading = entry.meta.reading};
  for (const auto& read : entry.reads) info.read_under.push_back(read->policy);
  for (const StoredRead& read : entry.saved) {
    if (FindPolicy(entry.reads, read.reading, read.policy) != nullptr) continue;
    info.read_under.push_back(read.policy);
  }
  return info;
}

absl::Status DocumentStore::Missing(const std::string& id, const std::string& owner) const {
  const bool was_here = gone_.contains({owner, id});
  metrics_->DocumentLookup(was_here ? LookupResult::kEvicted : LookupResult::kMiss);
  return MakeError(
      absl::StatusCode::kNotFound,
      was_here ? "the document is no longer held; upload it again" : "there is no such document",
      {.reason = was_here ? "DOCUMENT_EVICTED" : "DOCUMENT_NOT_FOUND",
       .resource_type = "document",
       .resource_name = id});
}

DocumentStore::Entries::iterator DocumentStore::FindLive(const std::string& id,
                                                         const std::string& owner) {
  Expire(clock_->Now());
  const auto entry = entries_.find(id);
  if (entry == entries_.end() || !entry->second.meta.holdings.contains(owner))
    return entries_.end();
  return entry;
}

DocumentStore::Holding& DocumentStore::Hold(Entry& entry, const DocumentOptions& options) {
  const absl::Time now = clock_->Now();
  const auto [at, is_new] = entry.meta.holdings.try_emplace(
      options.owner, Holding{.title = options.title, .created = now, .expires = now});
  Holding& holding = at->second;
  holding.pinned |= options.pinned;
  holding.expires =
      std::max(holding.expires, options.ttl == absl::InfiniteDuration() ? absl::InfiniteFuture()
                                                                        : now + options.ttl);
  next_expiry_ = std::min(next_expiry_, holding.expires);
  entry.last_used = now;
  const Gone gone{options.owner, entry.meta.identity.id};
  if (is_new && gone_.erase(gone) > 0) std::erase(gone_order_, gone);
  SetUnsaved(entry.meta.identity.id);
  return holding;
}

DocumentStore::Usage DocumentStore::UsageOf(const std::string& owner) const {
  Usage usage;
  if (const auto reserved = reserved_.find(owner); reserved != reserved_.end()) {
    usage = reserved->second;
  }
  for (const auto& [id, entry] : entries_) {
    if (!entry.meta.holdings.contains(owner)) continue;
    usage.bytes += entry.held_bytes();
    ++usage.documents;
  }
  return usage;
}

absl::Status DocumentStore::CheckQuota(const std::string& owner, uint64_t bytes) const {
  const TenantLimits& limits = options_.tenant_limits;
  if (limits.bytes == 0 && limits.documents == 0) return absl::OkStatus();
  const Usage usage = UsageOf(owner);
  const bool bytes_fit = limits.bytes == 0 || usage.bytes + bytes <= limits.bytes;
  const bool documents_fit = limits.documents == 0 || usage.documents < limits.documents;
  if (bytes_fit && documents_fit) return absl::OkStatus();
  metrics_->Rejected(AdmissionReason::kClientQuota);
  // Waiting does not help: no retry_after.
  return MakeError(absl::StatusCode::kResourceExhausted,
                   bytes_fit
                       ? absl::StrCat("the tenant holds ", usage.documents, " of at most ",
                                      limits.documents, " documents; delete some")
                       : absl::StrCat("the document's keys and values take ", bytes,
                                      " bytes, the tenant ", "holds ", usage.bytes, " of at most ",
                                      limits.bytes, "; delete some documents"),
                   {.reason = "CLIENT_QUOTA",
                    .metadata = {{"bytes", absl::StrCat(bytes)},
                                 {"bytes_used", absl::StrCat(usage.bytes)},
                                 {"bytes_limit", absl::StrCat(limits.bytes)},
                                 {"documents_used", absl::StrCat(usage.documents)},
                                 {"documents_limit", absl::StrCat(limits.documents)}}});
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

void DocumentStore::Forget(const std::string& id, const std::string& owner) {
  if (!gone_.insert({owner, id}).second) return;
  gone_order_.emplace_back(owner, id);
  if (gone_order_.size() > kRememberedIds) {
    gone_.erase(gone_order_.front());
    gone_order_.pop_front();
  }
}

void DocumentStore::Remove(Entries::iterator entry, EvictionReason reason) {
  if (entry->second.content != nullptr) metrics_->DocumentEvicted(reason);
  if (entry->second.on_disk) metrics_->DocumentEvicted(reason, CacheTier::kDisk);
  if (cache_ != nullptr) removals_.insert(entry->first);
  for (const auto& [owner, holding] : entry->second.meta.holdings) Forget(entry->first, owner);
  entries_.erase(entry);
  Publish();
}

DocumentStore::Lease DocumentStore::LeaseOf(const Entry& entry) {
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
  Entry& document = entry->second;
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
  Usage& reserved = reserved_[owner];
  reserved.bytes += bytes;
  ++reserved.documents;
  reservation.store_ = this;
  reservation.owner_ = owner;
  reservation.bytes_ = bytes;
  return reservation;
}

DocumentInfo DocumentStore::Put(std::shared_ptr<const DocumentContent> content,
                                std::shared_ptr<const DocumentKv> read,
                                const DocumentOptions& options) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[content->id];
  if (entry.model == nullptr) {
    entry.meta = MetaOf(*content, read->reading);
    entry.model = content->model;
  }
  if (entry.content == nullptr) entry.content = std::move(content);
  const Holding& holding = Hold(entry, options);
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
  Entry& document = entry->second;
  if (!document.meta.holdings.contains(options.owner)) {
    LECTERN_RETURN_IF_ERROR(CheckQuota(options.owner, document.held_bytes()));
  }
  return InfoOf(document, Hold(document, options));
}

void DocumentStore::AddReadTo(Entry& entry, std::shared_ptr<const DocumentKv> read) {
  if (FindPolicy(entry.reads, read->reading, read->policy) != nullptr) return;
  if (!entry.IsSaved(*read)) SetUnsaved(entry.meta.identity.id);
  if (entry.reads.size() >= kMaxReads) entry.reads.erase(entry.reads.begin());
  entry.reads.push_back(std::move(read));
}

void DocumentStore::AddRead(const std::string& id, std::shared_ptr<const DocumentKv> read) {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  if (entry->second.content == nullptr) return;  // it has left memory meanwhile
  const bool more = FindPolicy(entry->second.reads, read->reading, read->policy) == nullptr &&
                    !entry->second.IsSaved(*read);
  const uint64_t limit = more ? options_.tenant_limits.bytes : 0;
  for (const auto& [owner, holding] : entry->second.meta.holdings) {
    if (limit != 0 && UsageOf(owner).bytes + read->bytes() > limit) return;
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
  // The token is the id of the last document of the page before; ids have one form.
  if (!page_token.empty() && !IsDocumentId(page_token)) {
    return MakeError(absl::StatusCode::kInvalidArgument, "page_token is not one of this server's",
                     {.reason = "INVALID_REQUEST",
                      .field_violations = {{"page_token", "must come from a previous page"}}});
  }
  if (page_size > kMaxPageSize) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("page_size must be at most ", kMaxPageSize),
        {.reason = "INVALID_REQUEST",
         .field_violations = {{"page_size", absl::StrCat("must be 0 to ", kMaxPageSize)}}});
  }
  if (page_size == 0) page_size = kDefaultPageSize;
  MutexLock lock(&mutex_);
  Expire(clock_->Now());
  DocumentPage page;
  for (const auto& [id, entry] : entries_) {
    if (!model.empty() && entry.meta.model != model) continue;
    const auto holding = entry.meta.holdings.find(owner);
    if (holding == entry.meta.holdings.end()) continue;
    ++page.total;
    if (!page_token.empty() && id <= page_token) continue;
    if (page.documents.size() == page_size) {
      page.next_page_token = page.documents.back().id;
      continue;  // only counted
    }
    page.documents.push_back(InfoOf(entry, holding->second));
  }
  return page;
}

absl::StatusOr<uint64_t> DocumentStore::Delete(const std::string& id, const std::string& owner) {
  uint64_t freed = 0;
  {
    MutexLock lock(&mutex_);
    const auto entry = FindLive(id, owner);
    if (entry == entries_.end()) return Missing(id, owner);
    Entry& document = entry->second;
    document.meta.holdings.erase(owner);
    if (document.meta.holdings.empty()) {
      if (document.hold.use_count() == 1) freed = document.bytes();
      Remove(entry, EvictionReason::kDeleted);
    }
  }
  if (cache_ == nullptr) return freed;
  const absl::Status status = SyncOwners(id);
  PublishDisk();
  LECTERN_RETURN_IF_ERROR(status);
  return freed;
}

bool DocumentStore::EvictOne() {
  MutexLock lock(&mutex_);
  auto oldest = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->second.content == nullptr || entry->second.pinned() ||
        entry->second.hold.use_count() > 1) {
      continue;
    }
    if (oldest == entries_.end() || entry->second.last_used < oldest->second.last_used) {
      oldest = entry;
    }
  }
  if (oldest == entries_.end()) return false;
  metrics_->KvCacheEvicted(oldest->second.model->info().name, oldest->second.reads.size());
  if (oldest->second.on_disk) {
    metrics_->DocumentEvicted(EvictionReason::kPressure);
    oldest->second.content = nullptr;
    oldest->second.reads.clear();
    Publish();
  } else {
    Remove(oldest, EvictionReason::kPressure);
  }
  return true;
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
        Forget(entry->first, holding.first);
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
                     [](const auto& entry) { return entry.second.hold.use_count() > 1; });
}

uint64_t DocumentStore::size() const {
  MutexLock lock(&mutex_);
  return entries_.size();
}

}  // namespace lectern
