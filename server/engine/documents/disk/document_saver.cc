#include "server/engine/documents/disk/document_saver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

constexpr absl::Duration kMostRetry = absl::Minutes(1);

}  // namespace

void DocumentSaver::Start() {
  const absl::Status status = OpenFolder();
  {
    MutexLock lock(&mutex_);
    SetAvailable(status);
  }
  thread_ = std::thread([this] { Loop(); });
}

DocumentSaver::~DocumentSaver() { Stop(); }

void DocumentSaver::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

absl::Status DocumentSaver::OpenFolder() {
  LECTERN_ASSIGN_OR_RETURN(std::vector<StoredDocument> found, cache_->Open());
  const size_t documents = found.size();
  client_->Adopt(std::move(found));
  {
    MutexLock lock(&mutex_);
    opened_ = true;
  }
  LogInfo("cache folder opened", {{"folder", cache_->directory()},
                                  {"documents", absl::StrCat(documents)},
                                  {"bytes", absl::StrCat(cache_->bytes())}});
  Publish();
  return absl::OkStatus();
}

void DocumentSaver::SetUnsaved(const std::string& id) {
  MutexLock lock(&mutex_);
  unsaved_.insert(id);
}

void DocumentSaver::SetRemoved(const std::string& id) {
  MutexLock lock(&mutex_);
  removals_.insert(id);
}

void DocumentSaver::DropUnsaved(const std::string& id) {
  MutexLock lock(&mutex_);
  unsaved_.erase(id);
}

bool DocumentSaver::HasWork() const { return !unsaved_.empty() || !removals_.empty(); }

void DocumentSaver::SetAvailable(const absl::Status& status) {
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

void DocumentSaver::Loop() {
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
    Publish();
    MutexLock lock(&mutex_);
    saving_ = false;
    retry = status.ok() ? cache_->least_retry() : std::min(2 * retry, kMostRetry);
    SetAvailable(status);
  }
}

absl::Status DocumentSaver::SaveNext() {
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
  if (!opened) return OpenFolder();
  if (id.empty()) return absl::OkStatus();
  return remove ? SaveOwners(id) : Save(id);
}

absl::Status DocumentSaver::Save(const std::string& id) {
  // First: what changes from now on has to be saved again.
  DropUnsaved(id);
  const std::optional<UnsavedDocument> unsaved = client_->GetUnsaved(id);
  if (!unsaved) return absl::OkStatus();
  const absl::Status status = WriteFiles(*unsaved);
  if (!status.ok()) client_->SaveAgain(id);
  return status;
}

absl::Status DocumentSaver::WriteFiles(const UnsavedDocument& unsaved) {
  if (unsaved.content != nullptr) {
    const DocumentContent& content = *unsaved.content;
    uint64_t bytes = unsaved.text ? DocumentCache::TextFileBytes(content.text.size()) : 0;
    for (const auto& read : unsaved.reads) bytes += DocumentCache::PagesFileBytes(content, *read);
    if (!MakeRoom(bytes, unsaved.id)) return SaveOwners(unsaved.id);
    if (unsaved.text) LECTERN_RETURN_IF_ERROR(cache_->SaveText(content));
    for (const auto& read : unsaved.reads) {
      LECTERN_RETURN_IF_ERROR(cache_->SavePages(content, *read));
    }
  }
  LECTERN_RETURN_IF_ERROR(SaveOwners(unsaved.id));
  for (const StoredRead& read : client_->SetSaved(unsaved)) {
    cache_->RemovePages(unsaved.id, read.reading, read.policy);
  }
  return absl::OkStatus();
}

absl::Status DocumentSaver::SaveOwners(const std::string& id) {
  MutexLock owners_lock(&owners_mutex_);
  {
    // First: what is removed from now on has to be removed again.
    MutexLock lock(&mutex_);
    removals_.erase(id);
  }
  const std::optional<OwnersToSave> owners = client_->GetOwners(id);
  // Files of a document whose text is not on disk yet wait for Save().
  if (!cache_->Has(id)) return absl::OkStatus();
  const absl::Status status =
      owners ? cache_->SaveMeta(owners->meta, owners->last_used) : cache_->Remove(id).status();
  if (!status.ok()) client_->SaveAgain(id);
  return status;
}

bool DocumentSaver::MakeRoom(uint64_t bytes, const std::string& id) {
  if (bytes > cache_->max_bytes()) return false;
  while (cache_->bytes() + bytes > cache_->max_bytes()) {
    if (cache_->DropForeign()) continue;
    const std::optional<std::string> oldest = client_->EvictFromDisk(id);
    if (!oldest || !cache_->Remove(*oldest).ok()) return false;
  }
  return true;
}

void DocumentSaver::Publish() {
  // One at a time: the last to publish has counted last.
  MutexLock owners_lock(&owners_mutex_);
  metrics_->SetDocuments(client_->CountOnDisk(), cache_->bytes(), CacheTier::kDisk);
}

bool DocumentSaver::Flush() {
  MutexLock lock(&mutex_);
  mutex_.Await(
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !saving_ && (unavailable_ || !HasWork()); });
  return !unavailable_;
}

}  // namespace lectern
