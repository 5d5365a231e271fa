// The document store's side of the disk: what is written when, and how documents come back.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/engine/documents/document_store.h"

namespace lectern {
namespace {

constexpr size_t kMaxSaved = 4;
constexpr absl::Duration kMostRetry = absl::Minutes(1);

}  // namespace

DocumentStore::DocumentStore(const Clock* clock, ServerMetrics* metrics,
                             DocumentStoreOptions options)
    : clock_(clock),
      metrics_(metrics),
      options_(std::move(options)),
      cache_(options_.cache.directory.empty()
                 ? nullptr
                 : std::make_unique<DocumentCache>(options_.cache, options_.models, metrics)) {
  if (cache_ == nullptr) return;
  const absl::Status status = OpenCache();
  {
    MutexLock lock(&mutex_);
    SetAvailable(status);
  }
  saver_ = std::thread([this] { SaveLoop(); });
}

DocumentStore::~DocumentStore() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (saver_.joinable()) saver_.join();
}

absl::Status DocumentStore::OpenCache() {
  LECTERN_ASSIGN_OR_RETURN(std::vector<StoredDocument> found, cache_->Open());
  {
    MutexLock lock(&mutex_);
    opened_ = true;
    for (StoredDocument& stored : found) Adopt(std::move(stored));
    Expire(clock_->Now());
  }
  LogInfo("cache folder opened", {{"folder", options_.cache.directory},
                                  {"documents", absl::StrCat(found.size())},
                                  {"bytes", absl::StrCat(cache_->bytes())}});
  PublishDisk();
  return absl::OkStatus();
}

void DocumentStore::Adopt(StoredDocument stored) {
  const std::string& id = stored.meta.identity.id;
  for (const auto& [owner, holding] : stored.meta.holdings) {
    next_expiry_ = std::min(next_expiry_, holding.expires);
  }
  Entry& entry = entries_[id];
  if (entry.model == nullptr) {
    entry.meta = std::move(stored.meta);
    entry.model = std::move(stored.model);
    entry.last_used = stored.last_used;
    entry.last_saved = stored.last_used;
  } else {
    // Uploaded anew before the folder could be opened.
    entry.meta.holdings.merge(stored.meta.holdings);
    unsaved_.insert(id);
  }
  entry.on_disk = true;
  entry.saved = std::move(stored.reads);
}

void DocumentStore::SetUnsaved(const std::string& id) {
  if (cache_ != nullptr) unsaved_.insert(id);
}

bool DocumentStore::HasWork() const { return !unsaved_.empty() || !removals_.empty(); }

void DocumentStore::SetAvailable(const absl::Status& status) {
  metrics_->SetCacheAvailable(status.ok());
  if (!status.ok()) {
    metrics_->CacheDiskError();
    // One line when it begins, one when it ends.
    if (!unavailable_) {
      LogWarning("documents are kept in memory alone until the cache folder works again",
                 {{"error", std::string(status.message())}});
    }
  } else if (unavailable_) {
    LogInfo("the cache folder works again");
  }
  unavailable_ = !status.ok();
}

void DocumentStore::SaveLoop() {
  absl::Duration retry = cache_->least_retry();
  while (true) {
    {
      MutexLock lock(&mutex_);
      const auto ready = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return stopping_ || (!unavailable_ && HasWork());
      };
      const absl::Time until = unavailable_ ? absl::Now() + retry : absl::InfiniteFuture();
      mutex_.AwaitUntil(until, ready);
      if (stopping_ && (unavailable_ || !HasWork())) return;
      if (opened_ && !HasWork()) continue;
      saving_ = true;
    }
    const absl::Status status = SaveNext();
    PublishDisk();
    MutexLock lock(&mutex_);
    saving_ = false;
    retry = status.ok() ? cache_->least_retry() : std::min(2 * retry, kMostRetry);
    SetAvailable(status);
  }
}

absl::Status DocumentStore::SaveNext() {
  std::string id;
  bool remove = false;
  bool opened = false;
  {
    MutexLock lock(&mutex_);
    opened = opened_;
    remove = !removals_.empty();
    if (remove) {
      id = *removals_.begin();
    } else if (!unsaved_.empty()) {
      id = *unsaved_.begin();
    }
  }
  if (!opened) return OpenCache();
  if (id.empty()) return absl::OkStatus();
  return remove ? SyncOwners(id) : Save(id);
}

absl::Status DocumentStore::Save(const std::string& id) {
  Unsaved unsaved;
  {
    MutexLock lock(&mutex_);
    unsaved_.erase(id);
    const auto found = entries_.find(id);
    if (found == entries_.end()) return absl::OkStatus();
    const Entry& entry = found->second;
    unsaved.lease = LeaseOf(entry);
    unsaved.text = !entry.on_disk;
    for (const auto& read : entry.reads) {
      if (!entry.IsSaved(*read)) unsaved.reads.push_back(read);
    }
  }
  const absl::Status status = WriteFiles(unsaved);
  if (status.ok()) return status;
  // A document that has gone meanwhile leaves the files that were written.
  MutexLock lock(&mutex_);
  (entries_.contains(id) ? unsaved_ : removals_).insert(id);
  return status;
}

absl::Status DocumentStore::WriteFiles(const Unsaved& unsaved) {
  const Lease& lease = unsaved.lease;
  if (lease.resident()) {
    const DocumentContent& content = lease.content();
    uint64_t bytes = unsaved.text ? DocumentCache::TextFileBytes(content.text.size()) : 0;
    for (const auto& read : unsaved.reads) bytes += DocumentCache::PagesFileBytes(content, *read);
    if (!MakeRoom(bytes, lease.id())) return SyncOwners(lease.id());
    if (unsaved.text) LECTERN_RETURN_IF_ERROR(cache_->SaveText(content));
    for (const auto& read : unsaved.reads) {
      LECTERN_RETURN_IF_ERROR(cache_->SavePages(content, *read));
    }
  }
  LECTERN_RETURN_IF_ERROR(SyncOwners(lease.id()));
  std::vector<StoredRead> dropped;
  {
    MutexLock lock(&mutex_);
    const auto found = entries_.find(lease.id());
    if (found == entries_.end() || found->second.hold != lease.hold_) return absl::OkStatus();
    Entry& entry = found->second;
    entry.on_disk = true;
    for (const auto& read : unsaved.reads) {
      entry.saved.push_back({read->reading, read->policy, read->bytes()});
    }
    while (entry.saved.size() > kMaxSaved) {
      dropped.push_back(entry.saved.front());
      entry.saved.erase(entry.saved.begin());
    }
  }
  for (const StoredRead& read : dropped) {
    cache_->RemovePages(lease.id(), read.reading, read.policy);
  }
  return absl::OkStatus();
}

absl::Status DocumentStore::SyncOwners(const std::string& id) {
  MutexLock owners_lock(&owners_mutex_);
  std::optional<CacheMeta> meta;
  absl::Time last_used;
  {
    MutexLock lock(&mutex_);
    removals_.erase(id);
    if (const auto found = entries_.find(id); found != entries_.end()) {
      meta = found->second.meta;
      last_used = found->second.last_used;
      found->second.last_saved = last_used;
    }
  }
  // Files of a document that has no text there yet wait for Save().
  if (!cache_->Has(id)) return absl::OkStatus();
  const absl::Status status =
      meta ? cache_->SaveMeta(*meta, last_used) : cache_->Remove(id).status();
  if (!status.ok()) {
    MutexLock lock(&mutex_);
    (entries_.contains(id) ? unsaved_ : removals_).insert(id);
  }
  return status;
}

bool DocumentStore::MakeRoom(uint64_t bytes, const std::string& id) {
  if (bytes > cache_->max_bytes()) return false;
  while (cache_->bytes() + bytes > cache_->max_bytes()) {
    if (cache_->DropForeign()) continue;
    std::string oldest_id;
    {
      MutexLock lock(&mutex_);
      auto oldest = entries_.end();
      for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        const Entry& document = entry->second;
        if (!document.on_disk || document.pinned() || entry->first == id) continue;
        if (oldest == entries_.end() || document.last_used < oldest->second.last_used) {
          oldest = entry;
        }
      }
      if (oldest == entries_.end()) return false;
      oldest_id = oldest->first;
      Entry& document = oldest->second;
      const bool in_use = document.hold.use_count() > 1;
      if (document.content == nullptr && !in_use) {
        Remove(oldest, EvictionReason::kPressure);
      } else if (document.content == nullptr) {
        return false;  // it is being read from disk just now
      } else {
        metrics_->DocumentEvicted(EvictionReason::kPressure, CacheTier::kDisk);
        document.on_disk = false;
        document.saved.clear();
        unsaved_.erase(oldest_id);
      }
    }
    if (!cache_->Remove(oldest_id).ok()) return false;
  }
  return true;
}

void DocumentStore::PublishDisk() {
  // One at a time: who publishes last has looked last.
  MutexLock owners_lock(&owners_mutex_);
  uint64_t documents = 0;
  {
    MutexLock lock(&mutex_);
    for (const auto& [id, entry] : entries_) documents += entry.on_disk ? 1 : 0;
  }
  metrics_->SetDocuments(documents, cache_->bytes(), CacheTier::kDisk);
}

bool DocumentStore::Flush() {
  if (cache_ == nullptr) return true;
  MutexLock lock(&mutex_);
  mutex_.Await(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !saving_ && (unavailable_ || !HasWork()); });
  return !unavailable_;
}

absl::Status DocumentStore::MakeResident(Lease& lease) {
  CacheMeta meta;
  {
    MutexLock lock(&mutex_);
    const auto found = entries_.find(lease.id());
    const bool same = found != entries_.end() && found->second.hold == lease.hold_;
    if (same && found->second.content != nullptr) lease.content_ = found->second.content;
    if (lease.resident()) return absl::OkStatus();
    if (!same) {
      return MakeError(absl::StatusCode::kNotFound, "the document was deleted",
                       {.reason = "DOCUMENT_NOT_FOUND",
                        .resource_type = "document",
                        .resource_name = lease.id()});
    }
    meta = found->second.meta;
  }
  const absl::StatusOr<std::string> text = cache_->LoadText(meta);
  std::shared_ptr<const DocumentContent> content;
  if (text.ok()) content = PrepareContent(lease.model(), *text, meta.sha256);
  MutexLock lock(&mutex_);
  const auto found = entries_.find(lease.id());
  const bool same = found != entries_.end() && found->second.hold == lease.hold_;
  if (content == nullptr) {
    if (same) Remove(found, EvictionReason::kPressure);
    return MakeError(
        absl::StatusCode::kNotFound,
        "the document could not be read back from disk; upload it again",
        {.reason = "DOCUMENT_EVICTED", .resource_type = "document", .resource_name = lease.id()});
  }
  if (same && found->second.content == nullptr) {
    found->second.content = content;
    found->second.meta.chunks = content->chunks.size();
    Publish();
  }
  lease.content_ = same ? found->second.content : content;
  return absl::OkStatus();
}

bool DocumentStore::IsOnDisk(const Lease& lease, ReadingMode reading,
                             const AttentionPolicy& policy) const {
  MutexLock lock(&mutex_);
  const auto found = entries_.find(lease.id());
  if (found == entries_.end() || found->second.hold != lease.hold_) return false;
  const auto& saved = found->second.saved;
  return std::any_of(saved.begin(), saved.end(), [&](const StoredRead& stored) {
    return stored.reading == reading && stored.policy == policy;
  });
}

absl::StatusOr<std::shared_ptr<const DocumentKv>> DocumentStore::FindOrLoad(
    const Lease& lease, ReadingMode reading, const AttentionPolicy& policy,
    const PageAllocator& allocate) {
  if (auto read = Find(lease, reading, policy)) return read;
  if (!IsOnDisk(lease, reading, policy)) return nullptr;
  const absl::Duration start = clock_->Steady();
  auto read = cache_->LoadPages(lease.content(), reading, policy, allocate);
  if (absl::IsDataLoss(read.status())) {
    MutexLock lock(&mutex_);
    const auto found = entries_.find(lease.id());
    if (found != entries_.end()) {
      std::erase_if(found->second.saved, [&](const StoredRead& stored) {
        return stored.reading == reading && stored.policy == policy;
      });
    }
    return nullptr;
  }
  LECTERN_RETURN_IF_ERROR(read.status());
  metrics_->DocumentReloaded(clock_->Steady() - start);
  AddRead(lease.id(), *read);
  return *read;
}

}  // namespace lectern
