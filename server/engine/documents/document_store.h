// Documents that have been read: text, tokens, sentences, and for each policy they were read under
// the pages of their keys and values. Content-addressed; read-only pages shared by all questions.
//
// A document belongs to the owners that uploaded it (the tenants of a server; the empty owner is
// the only one of a server without tenants). An id is no secret: an owner sees, lists, asks and
// deletes what it has uploaded itself, each with its own title, pin and expiry, and to it a
// document of others is as if it were not there. The pages are shared all the same, and counted in
// full against the quota of each owner.
//
// With a cache folder, a thread of the store's own writes what is new to disk. A document that is
// there leaves memory for others (eviction demotes it) and is still held: MakeResident() and
// LoadPages() bring it back. When the disk fails, memory serves on and writing is tried again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/engine/api.h"
#include "server/engine/documents/disk/document_cache.h"
#include "server/engine/documents/disk/document_saver.h"
#include "server/engine/documents/document.h"
#include "server/engine/documents/document_entry.h"
#include "server/engine/documents/owner_quotas.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

// How an owner keeps a document.
struct DocumentOptions {
  std::string owner;
  std::string title;
  bool pinned = false;
  absl::Duration ttl = absl::InfiniteDuration();
};

struct DocumentStoreOptions {
  TenantLimits tenant_limits;
  DocumentCacheOptions cache;                        // without a directory: memory alone
  std::vector<std::shared_ptr<const Model>> models;  // whose documents on disk are held
};

// Thread-safe. What takes an owner answers NOT_FOUND (DOCUMENT_NOT_FOUND, or DOCUMENT_EVICTED if
// that owner's document was here once) where the owner has no such document.
class DocumentStore : private SaverClient {
 public:
  // Reads the headers of the cache folder: from then on the documents there are held.
  DocumentStore(const Clock* clock, ServerMetrics* metrics, DocumentStoreOptions options = {});
  // Writes what is not yet on disk, unless the disk fails.
  ~DocumentStore() override;
  DocumentStore(const DocumentStore&) = delete;
  DocumentStore& operator=(const DocumentStore&) = delete;

  // A document in use: it is not evicted, and its memory outlives its deletion.
  class Lease {
   public:
    Lease() = default;
    explicit operator bool() const { return hold_ != nullptr; }
    const std::string& id() const { return id_; }
    const std::shared_ptr<const Model>& model() const { return model_; }
    // Of the document, without the prompt's prefix.
    uint64_t tokens() const { return tokens_; }
    // False: on disk alone; content() is there after MakeResident().
    bool resident() const { return content_ != nullptr; }
    const DocumentContent& content() const { return *content_; }
    const std::shared_ptr<const DocumentContent>& shared_content() const { return content_; }
    // How the document was read when it was uploaded.
    ReadingMode reading() const { return reading_; }

   private:
    friend class DocumentStore;
    std::string id_;
    std::shared_ptr<const Model> model_;
    uint64_t tokens_ = 0;
    ReadingMode reading_ = ReadingMode::kWhole;
    std::shared_ptr<const DocumentContent> content_;
    std::shared_ptr<void> hold_;
    std::vector<std::shared_ptr<const DocumentKv>> reads_;
  };

  // Room in an owner's quota for a document that is being read; given back when destroyed, which
  // should follow Put(). Move-only; the store must outlive it.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept { *this = std::move(other); }
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation() { Release(); }

   private:
    friend class DocumentStore;
    void Release();
    DocumentStore* store_ = nullptr;
    std::string owner_;
    uint64_t bytes_ = 0;
  };

  // Counts as a use.
  absl::StatusOr<Lease> Use(const std::string& id, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The document's pages of that reading under `policy`, or null. Sees pages that were added after
  // Use().
  std::shared_ptr<const DocumentKv> Find(const Lease& lease, ReadingMode reading,
                                         const AttentionPolicy& policy) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Has(const std::string& id, const std::string& owner) ABSL_LOCKS_EXCLUDED(mutex_);

  // Brings a document's text back from disk and prepares it; at once if it is in memory. Blocks on
  // disk and tokenising. NOT_FOUND (DOCUMENT_EVICTED) if the file turns out to be damaged: then the
  // document has gone.
  absl::Status MakeResident(Lease& lease) ABSL_LOCKS_EXCLUDED(mutex_);
  // Pages that FindOrLoad() may find on disk.
  bool IsOnDisk(const Lease& lease, ReadingMode reading, const AttentionPolicy& policy)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // What Find() finds, else what is on disk, read into pages of `allocate`, else null: then the
  // caller has to compute the pages. Blocks on the disk. Errors are the allocator's. `lease` must
  // be resident.
  absl::StatusOr<std::shared_ptr<const DocumentKv>> FindOrLoad(const Lease& lease,
                                                               ReadingMode reading,
                                                               const AttentionPolicy& policy,
                                                               const PageAllocator& allocate)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until everything is on disk; false if the disk fails. Without a cache: true.
  bool Flush() ABSL_LOCKS_EXCLUDED(mutex_);

  // Sets room aside for one more document of `bytes` bytes of pages. RESOURCE_EXHAUSTED
  // (CLIENT_QUOTA, with the figures) if the owner's limits do not allow it; waiting does not help.
  absl::StatusOr<Reservation> Reserve(const std::string& owner, const std::string& id,
                                      uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // Adds a document with its first pages, or owner and pages to the document that is there already.
  // Quotas are not looked at: Reserve() did.
  DocumentInfo Put(std::shared_ptr<const DocumentContent> content,
                   std::shared_ptr<const DocumentKv> read, const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The same content was uploaded again, by an owner that has it, or by another, whose quota must
  // allow it: it lives at least as long as `options` say. Nothing if the document is not here.
  absl::StatusOr<std::optional<DocumentInfo>> Renew(const std::string& id,
                                                    const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Pages of a further policy; the oldest beyond four are dropped. No-op if the document has gone,
  // has pages of that policy, or an owner's quota is full.
  void AddRead(const std::string& id, std::shared_ptr<const DocumentKv> read)
      ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<DocumentInfo> Get(const std::string& id, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // In order of id. A page begins behind the last id of the page before: what is added or deleted
  // between two pages is seen or not, every other document exactly once.
  absl::StatusOr<DocumentPage> List(uint32_t page_size, const std::string& page_token,
                                    const std::string& model, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Bytes of memory freed by the time it returns: 0 while answers run on it or others own it too.
  absl::StatusOr<uint64_t> Delete(const std::string& id, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes the least recently used document that is neither pinned nor in use out of memory; false
  // if there is none. It is still held if it is on disk.
  bool EvictOne() ABSL_LOCKS_EXCLUDED(mutex_);
  void DropExpired() ABSL_LOCKS_EXCLUDED(mutex_);

  // Some documents are in use and may be evicted later.
  bool AnyInUse() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static Lease LeaseOf(const DocumentEntry& entry);
  absl::Status Missing(const std::string& id, const std::string& owner) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The document, if `owner` has it and it has not expired.
  DocumentEntries::iterator FindLive(const std::string& id, const std::string& owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The document of a lease, unless it has been deleted.
  DocumentEntry* EntryOf(const Lease& lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckQuota(const std::string& owner, uint64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Ownership& Hold(DocumentEntry& entry, const DocumentOptions& options)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddReadTo(DocumentEntry& entry, std::shared_ptr<const DocumentKv> read)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(DocumentEntries::iterator entry, EvictionReason reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the holdings that have expired, and the documents that nobody holds any more.
  void Expire(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetUnsaved(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // SaverClient (document_residency.cc).
  void Adopt(std::vector<StoredDocument> found) override ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<UnsavedDocument> GetUnsaved(const std::string& id) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<StoredRead> SetSaved(const UnsavedDocument& saved) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void SaveAgain(const std::string& id) override ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<OwnersToSave> GetOwners(const std::string& id) override ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<std::string> EvictFromDisk(const std::string& id) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t CountOnDisk() const override ABSL_LOCKS_EXCLUDED(mutex_);

  const Clock* const clock_;
  ServerMetrics* const metrics_;
  const DocumentStoreOptions options_;
  const std::unique_ptr<DocumentCache> cache_;  // null: memory alone
  mutable Mutex mutex_;
  DocumentEntries entries_ ABSL_GUARDED_BY(mutex_);
  OwnerQuotas quotas_ ABSL_GUARDED_BY(mutex_);
  // No holding expires before it.
  absl::Time next_expiry_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  // Null: memory alone, or the folder is being opened. Set once, by the constructor.
  std::unique_ptr<DocumentSaver> saver_;
};

}  // namespace lectern
