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

}  // namespace

namespace {

std::shared_ptr<const ReadDocument> FindPolicy(
    const std::vector<std::shared_ptr<const ReadDocument>>& reads, Reading reading,
    const AttentionPolicy& policy) {
  for (const auto& read : reads) {
    if (read->reading == reading && read->policy == policy) return read;
  }
  return nullptr;
}

}  // namespace

std::shared_ptr<const ReadDocument> DocumentStore::Find(const Lease& lease, Reading reading,
                                                        const AttentionPolicy& policy) const {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(lease.content_->id);
  const bool same = entry != entries_.end() && entry->second.hold == lease.hold_;
  return FindPolicy(same ? entry->second.reads : lease.reads_, reading, policy);
}

DocumentInfo DocumentStore::InfoOf(const Entry& entry) const {
  const DocumentContent& content = *entry.content;
  DocumentInfo info{.id = content.id,
                    .title = entry.options.title,
                    .model = content.model->info().name,
                    .bytes = content.text.size(),
                    .tokens = content.encoding.ids.size(),
                    .chunks = 1,
                    .sha256 = content.sha256,
                    .create_time = entry.created,
                    .last_use_time = entry.last_used,
                    .expire_time = entry.expires,
                    .pinned = entry.options.pinned,
                    .reading = Reading::kWhole};
  for (const auto& read : entry.reads) {
    info.device_bytes += read->bytes();
    info.read_under.push_back(read->policy);
  }
  return info;
}

absl::Status DocumentStore::Missing(const std::string& id) const {
  const bool was_here = gone_.contains(id);
  metrics_->DocumentLookup(was_here ? LookupResult::kEvicted : LookupResult::kMiss);
  return MakeError(
      absl::StatusCode::kNotFound,
      was_here ? "the document is no longer held; upload it again" : "there is no such document",
      {.reason = was_here ? "DOCUMENT_EVICTED" : "DOCUMENT_NOT_FOUND",
       .resource_type = "document",
       .resource_name = id});
}

DocumentStore::Entries::iterator DocumentStore::FindLive(const std::string& id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end() || entry->second.expires > clock_->Now()) return entry;
  Remove(entry, EvictionReason::kTtl);
  return entries_.end();
}

void DocumentStore::SetExpiry(Entry& entry) const {
  const absl::Time expires = entry.options.ttl == absl::InfiniteDuration()
                                 ? absl::InfiniteFuture()
                                 : clock_->Now() + entry.options.ttl;
  entry.expires = std::max(entry.expires, expires);
}

void DocumentStore::Publish() const {
  uint64_t bytes = 0;
  for (const auto& [id, entry] : entries_) {
    for (const auto& read : entry.reads) bytes += read->bytes();
  }
  metrics_->SetDocuments(entries_.size(), bytes);
}

void DocumentStore::Remove(Entries::iterator entry, EvictionReason reason) {
  metrics_->DocumentEvicted(reason);
  if (reason != EvictionReason::kDeleted && gone_.insert(entry->first).second) {
    gone_order_.push_back(entry->first);
    if (gone_order_.size() > kRememberedIds) {
      gone_.erase(gone_order_.front());
      gone_order_.pop_front();
    }
  }
  entries_.erase(entry);
  Publish();
}

absl::StatusOr<DocumentStore::Lease> DocumentStore::Use(const std::string& id) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id);
  if (entry == entries_.end()) return Missing(id);
  metrics_->DocumentLookup(LookupResult::kHit);
  entry->second.last_used = clock_->Now();
  Lease lease;
  lease.content_ = entry->second.content;
  lease.hold_ = entry->second.hold;
  lease.reads_ = entry->second.reads;
  return lease;
}

bool DocumentStore::Has(const std::string& id) {
  MutexLock lock(&mutex_);
  return FindLive(id) != entries_.end();
}

DocumentInfo DocumentStore::Put(std::shared_ptr<const DocumentContent> content,
                                std::shared_ptr<const ReadDocument> read,
                                const DocumentOptions& options) {
  MutexLock lock(&mutex_);
  const std::string id = content->id;
  Entry& entry = entries_[id];
  if (entry.content == nullptr) {
    entry.content = std::move(content);
    entry.options = options;
    entry.created = clock_->Now();
    entry.expires = absl::InfinitePast();
    SetExpiry(entry);
  }
  entry.last_used = clock_->Now();
  entry.reads.push_back(std::move(read));
  if (gone_.erase(id) > 0) std::erase(gone_order_, id);
  Publish();
  return InfoOf(entry);
}

std::optional<DocumentInfo> DocumentStore::Renew(const std::string& id,
                                                 const DocumentOptions& options) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id);
  if (entry == entries_.end()) return std::nullopt;
  Entry& document = entry->second;
  document.last_used = clock_->Now();
  document.options.pinned |= options.pinned;
  document.options.ttl = options.ttl;
  SetExpiry(document);
  return InfoOf(document);
}

void DocumentStore::AddRead(const std::string& id, std::shared_ptr<const ReadDocument> read) {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  auto& reads = entry->second.reads;
  if (FindPolicy(reads, read->reading, read->policy) != nullptr) return;
  if (reads.size() >= kMaxReads) reads.erase(reads.begin());
  reads.push_back(std::move(read));
  Publish();
}

absl::StatusOr<DocumentInfo> DocumentStore::Get(const std::string& id) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id);
  if (entry == entries_.end()) return Missing(id);
  return InfoOf(entry->second);
}

absl::StatusOr<DocumentPage> DocumentStore::List(uint32_t page_size, const std::string& page_token,
                                                 const std::string& model) {
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
  DropExpired();
  MutexLock lock(&mutex_);
  DocumentPage page;
  for (const auto& [id, entry] : entries_) {
    if (!model.empty() && entry.content->model->info().name != model) continue;
    ++page.total;
    if (!page_token.empty() && id <= page_token) continue;
    if (page.documents.size() == page_size) {
      page.next_page_token = page.documents.back().id;
      continue;  // only counted
    }
    page.documents.push_back(InfoOf(entry));
  }
  return page;
}

absl::StatusOr<uint64_t> DocumentStore::Delete(const std::string& id) {
  MutexLock lock(&mutex_);
  const auto entry = FindLive(id);
  if (entry == entries_.end()) return Missing(id);
  uint64_t freed = 0;
  if (entry->second.hold.use_count() == 1) {
    for (const auto& read : entry->second.reads) freed += read->bytes();
  }
  Remove(entry, EvictionReason::kDeleted);
  return freed;
}

bool DocumentStore::EvictOne() {
  MutexLock lock(&mutex_);
  auto oldest = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->second.options.pinned || entry->second.hold.use_count() > 1) continue;
    if (oldest == entries_.end() || entry->second.last_used < oldest->second.last_used) {
      oldest = entry;
    }
  }
  if (oldest == entries_.end()) return false;
  Remove(oldest, EvictionReason::kPressure);
  return true;
}

void DocumentStore::DropExpired() {
  MutexLock lock(&mutex_);
  const absl::Time now = clock_->Now();
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (entry->second.expires <= now) Remove(entry, EvictionReason::kTtl);
    entry = next;
  }
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
