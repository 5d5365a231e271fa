// Holds documents that have been read: text, tokens, sentences, and the keys and values for each
// policy they were read under. Content-addressed; all questions share the read-only pages.
//
// A document belongs to the owners that uploaded it (the tenants of a server; a server without
// tenants has only the empty owner). Ids are not secret: an owner sees, lists, asks about and
// deletes only documents that it uploaded, each with its own title, pin and expiry. Documents of
// others are NOT_FOUND. The pages are shared nevertheless, and counted in full against the quota of
// each owner.
//
// With a cache folder, DocumentSaver writes documents to disk. A document that is on disk can leave
// memory to make room for others and is still held: MakeResident() and FindOrLoad() bring it back.
//
// The parts: DocumentEntry is one document, OwnerQuotas the limits and reservations of owners,
// document_listing.h the pages of a list, disk/ the files. This class holds the documents in memory
// and decides which of them stay there.
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

// How an owner wants a document to be kept.
struct DocumentOptions {
  std::string owner;
  std::string title;
  bool pinned = false;
  absl::Duration ttl = absl::InfiniteDuration();
};

struct DocumentStoreOptions {
  TenantLimits tenant_limits;
  DocumentCacheOptions cache;                        // no directory: documents are not on disk
  std::vector<std::shared_ptr<const Model>> models;  // only their documents on disk are held
};

// Thread-safe. Methods that take an owner return NOT_FOUND if the owner has no such document: with
// DOCUMENT_EVICTED if it had the document once, otherwise with DOCUMENT_NOT_FOUND.
class DocumentStore : private SaverClient {
 public:
  // Reads the headers of the cache folder. From then on its documents are held.
  DocumentStore(const Clock* clock, ServerMetrics* metrics, DocumentStoreOptions options = {});
  // Writes documents that are not yet on disk, unless the disk fails.
  ~DocumentStore() override;
  DocumentStore(const DocumentStore&) = delete;
  DocumentStore& operator=(const DocumentStore&) = delete;

  // A document in use. It is not evicted, and its memory outlives its deletion.
  class Lease {
   public:
    Lease() = default;
    explicit operator bool() const { return hold_ != nullptr; }
    const std::string& id() const { return id_; }
    const std::shared_ptr<const Model>& model() const { return model_; }
    // Tokens of the document, without the prompt's prefix.
    uint64_t tokens() const { return tokens_; }
    // False if the document is only on disk; MakeResident() then brings content() back.
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

  // Room in an owner's quota for a document that is being read. Given back when it is destroyed,
  // which should be after Put(). Move-only; the store must outlive it.
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

  // Returns a lease and counts as a use.
  absl::StatusOr<Lease> Use(const std::string& id, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the document's pages of that reading under `policy`, or null. Finds pages that were
  // added after Use().
  std::shared_ptr<const DocumentKv> Find(const Lease& lease, ReadingMode reading,
                                         const AttentionPolicy& policy) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Has(const std::string& id, const std::string& owner) ABSL_LOCKS_EXCLUDED(mutex_);

  // Brings a document's text back from disk and prepares it, unless it is in memory. Blocks on disk
  // and tokenising. NOT_FOUND (DOCUMENT_EVICTED) if the file turns out to be damaged; the document
  // is then removed.
  absl::Status MakeResident(Lease& lease) ABSL_LOCKS_EXCLUDED(mutex_);
  // True if FindOrLoad() may find the pages on disk.
  bool IsOnDisk(const Lease& lease, ReadingMode reading, const AttentionPolicy& policy)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the pages that Find() finds, or else those on disk, read into pages of `allocate`, or
  // else null; the caller then has to compute them. Blocks on the disk. Errors are the allocator's.
  // `lease` must be resident.
  absl::StatusOr<std::shared_ptr<const DocumentKv>> FindOrLoad(const Lease& lease,
                                                               ReadingMode reading,
                                                               const AttentionPolicy& policy,
                                                               const PageAllocator& allocate)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until everything is on disk; false if the disk fails. True without a cache folder.
  bool Flush() ABSL_LOCKS_EXCLUDED(mutex_);

  // Reserves room for one more document with `bytes` bytes of pages. RESOURCE_EXHAUSTED
  // (CLIENT_QUOTA, with the figures) if the owner's limits do not allow it; waiting does not help.
  absl::StatusOr<Reservation> Reserve(const std::string& owner, const std::string& id,
                                      uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // Adds a document with its first pages, or adds owner and pages to the document that is there
  // already. Does not check quotas: Reserve() has done so.
  DocumentInfo Put(std::shared_ptr<const DocumentContent> content,
                   std::shared_ptr<const DocumentKv> read, const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Called when the content of a document is uploaded again: keeps the document at least as long as
  // `options` say. If the owner does not have it yet, its quota must allow it. Returns nothing if
  // the document is not here.
  absl::StatusOr<std::optional<DocumentInfo>> Renew(const std::string& id,
                                                    const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Adds pages of another policy; the oldest beyond four are dropped. Does nothing if the document
  // has gone or has pages of that policy, or if an owner's quota is full.
  void AddRead(const std::string& id, std::shared_ptr<const DocumentKv> read)
      ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<DocumentInfo> Get(const std::string& id, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns one page of the owner's documents (document_listing.h).
  absl::StatusOr<DocumentPage> List(uint32_t page_size, const std::string& page_token,
                                    const std::string& model, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns the bytes of memory that are free when it returns: 0 while answers use the document or
  // others own it too.
  absl::StatusOr<uint64_t> Delete(const std::string& id, const std::string& owner)
      ABSL_LOCKS_EXCLUDED(mutex_);

  enum class Eviction {
    kDone,    // memory was freed
    kSaving,  // nothing may go now, but the document that is being written to disk may go soon
    kNone,    // nothing may go
  };
  // Removes the least recently used document that is neither pinned nor in use from memory. The
  // document is still held if it is on disk.
  Eviction EvictOne() ABSL_LOCKS_EXCLUDED(mutex_);
  void DropExpired() ABSL_LOCKS_EXCLUDED(mutex_);

  // True if some documents are in use, and so may be evicted later.
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
  const std::unique_ptr<DocumentCache> cache_;  // null without a cache folder
  mutable Mutex mutex_;
  DocumentEntries entries_ ABSL_GUARDED_BY(mutex_);
  // Alive while the saver holds a document; points to that document's hold.
  std::weak_ptr<void> saving_ ABSL_GUARDED_BY(mutex_);
  OwnerQuotas quotas_ ABSL_GUARDED_BY(mutex_);
  // No holding expires before it.
  absl::Time next_expiry_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  // Null without a cache folder.
  std::unique_ptr<DocumentSaver> saver_;
};

}  // namespace lectern
