// DocumentStore's methods that move documents between memory and disk.
#include <algorithm>
#include <utility>

#include "base/error_details.h"
#include "base/status_macros.h"
#include "protocol/reasons.h"
#include "server/engine/documents/document_store.h"

namespace lectern {
namespace {

// Files of pages that are kept for a document, one for each reading and policy.
constexpr size_t kMaxSaved = 4;

}  // namespace

DocumentStore::Eviction DocumentStore::EvictOne() {
  MutexLock lock(&mutex_);
  // Read before the search: the saver releases its document without the lock.
  const void* const saving = saving_.lock().get();
  const auto oldest =
      LeastRecentlyUsed(entries_, [](const std::string&, const DocumentEntry& entry) {
        return entry.content != nullptr && !entry.pinned() && !entry.in_use();
      });
  if (oldest == entries_.end()) {
    const bool soon = std::any_of(entries_.begin(), entries_.end(), [&](const auto& one) {
      const DocumentEntry& entry = one.second;
      const bool saver_alone = entry.hold.get() == saving && entry.hold.use_count() <= 2;
      return saver_alone && entry.content != nullptr && !entry.pinned();
    });
    return soon ? Eviction::kSaving : Eviction::kNone;
  }
  DocumentEntry& document = oldest->second;
  metrics_->KvCacheEvicted(document.model->info().name, document.reads.size());
  if (document.on_disk) {
    metrics_->DocumentEvicted(EvictionReason::kPressure);
    document.content = nullptr;
    document.reads.clear();
    Publish();
  } else {
    Remove(oldest, EvictionReason::kPressure);
  }
  return Eviction::kDone;
}

absl::Status DocumentStore::MakeResident(Lease& lease) {
  CacheMeta meta;
  {
    MutexLock lock(&mutex_);
    const DocumentEntry* const entry = EntryOf(lease);
    if (entry != nullptr && entry->content != nullptr) lease.content_ = entry->content;
    if (lease.resident()) return absl::OkStatus();
    if (entry == nullptr) {
      return MakeError(absl::StatusCode::kNotFound, "the document was deleted",
                       {.reason = kReasonDocumentNotFound,
                        .resource_type = "document",
                        .resource_name = lease.id()});
    }
    meta = entry->meta;
  }
  const absl::StatusOr<std::string> text = cache_->LoadText(meta);
  std::shared_ptr<const DocumentContent> content;
  if (text.ok()) content = PrepareContent(lease.model(), *text, meta.sha256);
  MutexLock lock(&mutex_);
  DocumentEntry* const entry = EntryOf(lease);
  if (content == nullptr) {
    if (entry != nullptr) Remove(entries_.find(lease.id()), EvictionReason::kPressure);
    return MakeError(absl::StatusCode::kNotFound,
                     "the document could not be read back from disk; upload it again",
                     {.reason = kReasonDocumentEvicted,
                      .resource_type = "document",
                      .resource_name = lease.id()});
  }
  if (entry != nullptr && entry->content == nullptr) {
    entry->content = content;
    entry->meta.chunks = content->chunks.size();
    Publish();
  }
  lease.content_ = entry != nullptr ? entry->content : content;
  return absl::OkStatus();
}

bool DocumentStore::IsOnDisk(const Lease& lease, ReadingMode reading,
                             const AttentionPolicy& policy) {
  MutexLock lock(&mutex_);
  const DocumentEntry* const entry = EntryOf(lease);
  if (entry == nullptr) return false;
  return std::any_of(entry->saved.begin(), entry->saved.end(), [&](const StoredRead& stored) {
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

void DocumentStore::Adopt(std::vector<StoredDocument> found) {
  MutexLock lock(&mutex_);
  for (StoredDocument& stored : found) {
    const std::string& id = stored.meta.identity.id;
    for (const auto& [owner, holding] : stored.meta.holdings) {
      next_expiry_ = std::min(next_expiry_, holding.expires);
    }
    DocumentEntry& entry = entries_[id];
    if (entry.model != nullptr) {
      // Uploaded again before the folder could be opened.
      entry.meta.holdings.merge(stored.meta.holdings);
      SetUnsaved(id);
    } else {
      entry.meta = std::move(stored.meta);
      entry.model = std::move(stored.model);
      entry.last_used = stored.last_used;
      entry.last_saved = stored.last_used;
    }
    entry.on_disk = true;
    entry.saved = std::move(stored.reads);
  }
  Expire(clock_->Now());
}

std::optional<UnsavedDocument> DocumentStore::GetUnsaved(const std::string& id) {
  MutexLock lock(&mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return std::nullopt;
  const DocumentEntry& entry = found->second;
  const auto hold = std::make_shared<std::shared_ptr<int>>(entry.hold);
  UnsavedDocument unsaved{.id = id,
                          .content = entry.content,
                          .hold = std::shared_ptr<void>(hold, hold->get()),
                          .text = !entry.on_disk};
  saving_ = unsaved.hold;
  for (const auto& read : entry.reads) {
    if (!entry.IsSaved(*read)) unsaved.reads.push_back(read);
  }
  return unsaved;
}

std::vector<StoredRead> DocumentStore::SetSaved(const UnsavedDocument& saved) {
  std::vector<StoredRead> dropped;
  MutexLock lock(&mutex_);
  const auto found = entries_.find(saved.id);
  if (found == entries_.end() || found->second.hold != saved.hold) return dropped;
  DocumentEntry& entry = found->second;
  entry.on_disk = true;
  for (const auto& read : saved.reads) {
    entry.saved.push_back({read->reading, read->policy, read->bytes()});
  }
  while (entry.saved.size() > kMaxSaved) {
    dropped.push_back(entry.saved.front());
    entry.saved.erase(entry.saved.begin());
  }
  return dropped;
}

// If the document has been removed in the meantime, the files that were written remain.
void DocumentStore::SaveAgain(const std::string& id) {
  MutexLock lock(&mutex_);
  if (entries_.contains(id)) {
    saver_->SetUnsaved(id);
  } else {
    saver_->SetRemoved(id);
  }
}

std::optional<OwnersToSave> DocumentStore::GetOwners(const std::string& id) {
  MutexLock lock(&mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return std::nullopt;
  DocumentEntry& entry = found->second;
  entry.last_saved = entry.last_used;
  return OwnersToSave{entry.meta, entry.last_used};
}

std::optional<std::string> DocumentStore::EvictFromDisk(const std::string& id) {
  MutexLock lock(&mutex_);
  const auto oldest =
      LeastRecentlyUsed(entries_, [&](const std::string& other, const DocumentEntry& entry) {
        return entry.on_disk && !entry.pinned() && other != id;
      });
  if (oldest == entries_.end()) return std::nullopt;
  const std::string oldest_id = oldest->first;
  DocumentEntry& document = oldest->second;
  if (document.content != nullptr) {
    metrics_->DocumentEvicted(EvictionReason::kPressure, CacheTier::kDisk);
    document.on_disk = false;
    document.saved.clear();
    saver_->DropUnsaved(oldest_id);
  } else if (document.in_use()) {
    return std::nullopt;  // it is being read from disk
  } else {
    Remove(oldest, EvictionReason::kPressure);
  }
  return oldest_id;
}

uint64_t DocumentStore::CountOnDisk() const {
  MutexLock lock(&mutex_);
  uint64_t documents = 0;
  for (const auto& [id, entry] : entries_) documents += entry.on_disk ? 1 : 0;
  return documents;
}

}  // namespace lectern
