#include "server/engine/document_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error_details.h"
#include "server/base/sha256.h"
#include "server/base/status_macros.h"

namespace lectern {
namespace {

constexpr size_t kMaxReads = 4;
constexpr size_t kRememberedIds = 4096;
constexpr uint32_t kDefaultPageSize = 100;
constexpr uint32_t kMaxPageSize = 1000;

bool IsDocumentId(const std::string& text) {
  return text.size() == 36 && text.rfind("doc-", 0) == 0 &&
         text.find_first_not_of("0123456789abcdef", 4) == std::string::npos;
}

std::shared_ptr<const ReadDocument> FindPolicy(
    const std::vector<std::shared_ptr<const ReadDocument>>& reads, Reading reading,
    const AttentionPolicy& policy) {
  for (const auto& read : reads) {
    if (read->reading == reading && read->policy == policy) return read;
  }
  return nullptr;
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
  return std::any_of(holdings.begin(), holdings.end(),
                     [](const auto& holding) { return holding.second.pinned; });
}

uint64_t DocumentStore::Entry::bytes() const {
  uint64_t bytes = 0;
  for (const auto& read : reads) bytes += read->bytes();
  return bytes;
}

std::shared_ptr<const ReadDocument> DocumentStore::Find(const Lease& lease, Reading reading,
                                                        const AttentionPolicy& policy) const {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(lease.content_->id);
  const bool same = entry != entries_.end() && entry->second.hold == lease.hold_;
  return FindPolicy(same ? entry->second.reads : lease.reads_, reading, policy);
}

DocumentInfo DocumentStore::InfoOf(const Entry& entry, const Holding& holding) {
  const DocumentContent& content = *entry.content;
  DocumentInfo info{.id = content.id,
                    .title = holding.title,
                    .model = content.model->info().name,
                    .bytes = content.text.size(),
                    .tokens = content.encoding.ids.size(),
                    .chunks = static_cast<uint32_t>(entry.reads.front()->parts.size()),
                    .device_bytes = entry.bytes(),
                    .sha256 = content.sha256,
                    .create_time = holding.created,
                    .last_use_time = entry.last_used,
                    .expire_time = holding.expires,
                    .pinned = holding.pinned,
                    .reading = entry.reads.front()->reading};
  for (const auto& read : entry.reads) info.read_under.push_back(read->policy);
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
  if (entry == entries_.end() || !entry->second.holdings.contains(owner)) return entries_.end();
  return entry;
}

DocumentStore::Holding& DocumentStore::Hold(Entry& entry, const DocumentOptions& options) {
  const absl::Time now = clock_->Now();
  const auto [at, is_new] = entry.holdings.try_emplace(
      options.owner, Holding{.title = options.title, .created = now, .expires = now});
  Holding& holding = at->second;
  holding.pinned |= options.pinned;
  holding.expires =
      std::max(holding.expires, options.ttl == absl::InfiniteDuration() ? absl::InfiniteFuture()
                                                                        : now + options.ttl);
  next_expiry_ = std::min(next_expiry_, holding.expires);
  entry.last_used = now;
  const Gone gone{options.owner, entry.content->id};
  if (is_new && gone_.erase(gone) > 0) std::erase(gone_order_, gone);
  return holding;
}

DocumentStore::Usage DocumentStore::UsageOf(const std::string& owner) const {
  Usage usage;
  if (const auto reserved = reserved_.find(owner); reserved != reserved_.end()) {
    usage = reserved->second;
  }
  for (const auto& [id, entry] : entries_) {
    if (!entry.holdings.contains(owner)) continue;
    usage.bytes += entry.bytes();
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
  for (const auto& [id, entry] : entries_) bytes += entry.bytes();
  metrics_->SetDocuments(entries_.size(), bytes);
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
  metrics_->DocumentEvicted(reason);
  for (const auto& [owner, holding] : entry->second.holdings) Forget(entry->first, owner);
  entries_.erase(entry);
  Publish();
}

absl::StatusOr<DocumentStore::Lease> DocumentStore::Use(const std::string& id,
                                                        const std::string& owner) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id, owner);
  if (entry == entries_.end()) return Missing(id, owner);
  metrics_->DocumentLookup(LookupResult::kHit);
  entry->second.last_used = clock_->Now();
  Lease lease;
  lease.content_ = entry->second.content;
  lease.hold_ = entry->second.hold;
  lease.reads_ = entry->second.reads;
  return lease;
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
                                std::shared_ptr<const ReadDocument> read,
                                const DocumentOptions& options) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[content->id];
  if (entry.content == nullptr) entry.content = std::move(content);
  const Holding& holding = Hold(entry, options);
  if (FindPolicy(entry.reads, read->reading, read->policy) == nullptr) {
    entry.reads.push_back(std::move(read));
  }
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
  if (!document.holdings.contains(options.owner)) {
    LECTERN_RETURN_IF_ERROR(CheckQuota(options.owner, document.bytes()));
  }
  return InfoOf(document, Hold(document, options));
}

void DocumentStore::AddRead(const std::string& id, std::shared_ptr<const ReadDocument> read) {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  auto& reads = entry->second.reads;
  if (FindPolicy(reads, read->reading, read->policy) != nullptr) return;
  const uint64_t limit = options_.tenant_limits.bytes;
  for (const auto& [owner, holding] : entry->second.holdings) {
    if (limit != 0 && UsageOf(owner).bytes + read->bytes() > limit) return;
  }
  if (reads.size() >= kMaxReads) reads.erase(reads.begin());
  reads.push_back(std::move(read));
  Publish();
}

absl::StatusOr<DocumentInfo> DocumentStore::Get(const std::string& id, const std::string& owner) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id, owner);
  if (entry == entries_.end()) return Missing(id, owner);
  return InfoOf(entry->second, entry->second.holdings.at(owner));
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
    if (!model.empty() && entry.content->model->info().name != model) continue;
    const auto holding = entry.holdings.find(owner);
    if (holding == entry.holdings.end()) continue;
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
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id, owner);
  if (entry == entries_.end()) return Missing(id, owner);
  Entry& document = entry->second;
  document.holdings.erase(owner);
  if (!document.holdings.empty()) return 0;
  const uint64_t freed = document.hold.use_count() == 1 ? document.bytes() : 0;
  Remove(entry, EvictionReason::kDeleted);
  return freed;
}

bool DocumentStore::EvictOne() {
  MutexLock lock(&mutex_);
  auto oldest = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->second.pinned() || entry->second.hold.use_count() > 1) continue;
    if (oldest == entries_.end() || entry->second.last_used < oldest->second.last_used) {
      oldest = entry;
    }
  }
  if (oldest == entries_.end()) return false;
  Remove(oldest, EvictionReason::kPressure);
  return true;
}

void DocumentStore::Expire(absl::Time now) {
  if (now < next_expiry_) return;
  next_expiry_ = absl::InfiniteFuture();
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    auto& holdings = entry->second.holdings;
    std::erase_if(holdings, [&](const auto& holding) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      if (holding.second.expires <= now) {
        Forget(entry->first, holding.first);
        return true;
      }
      next_expiry_ = std::min(next_expiry_, holding.second.expires);
      return false;
    });
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
