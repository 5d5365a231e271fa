// Documents that have been read: text, tokens, sentences, and for each policy they were read under
// the pages of their keys and values. Content-addressed; read-only pages shared by all questions.
//
// A document belongs to the owners that uploaded it (the tenants of a server; the empty owner is
// the only one of a server without tenants). An id is no secret: an owner sees, lists, asks and
// deletes what it has uploaded itself, each with its own title, pin and expiry, and to it a
// document of others is as if it were not there. The pages are shared all the same, and counted in
// full against the quota of each owner.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/engine/document.h"
#include "server/engine/engine.h"
#include "server/engine/types.h"
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
};

// Thread-safe. What takes an owner answers NOT_FOUND (DOCUMENT_NOT_FOUND, or DOCUMENT_EVICTED if
// that owner's document was here once) where the owner has no such document.
class DocumentStore {
 public:
  DocumentStore(const Clock* clock, ServerMetrics* metrics, DocumentStoreOptions options = {})
      : clock_(clock), metrics_(metrics), options_(options) {}

  // A document in use: it is not evicted, and its memory outlives its deletion.
  class Lease {
   public:
    Lease() = default;
    explicit operator bool() const { return content_ != nullptr; }
    const DocumentContent& content() const { return *content_; }
    const std::shared_ptr<const DocumentContent>& shared_content() const { return content_; }
    // How the document was read when it was uploaded.
    Reading reading() const { return reads_.front()->reading; }

   private:
    friend class DocumentStore;
    std::shared_ptr<const DocumentContent> content_;
    std::shared_ptr<void> hold_;
    std::vector<std::shared_ptr<const ReadDocument>> reads_;
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
  std::shared_ptr<const ReadDocument> Find(const Lease& lease, Reading reading,
                                           const AttentionPolicy& policy) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool Has(const std::string& id, const std::string& owner) ABSL_LOCKS_EXCLUDED(mutex_);

  // Sets room aside for one more document of `bytes` bytes of pages. RESOURCE_EXHAUSTED
  // (CLIENT_QUOTA, with the figures) if the owner's limits do not allow it; waiting does not help.
  absl::StatusOr<Reservation> Reserve(const std::string& owner, const std::string& id,
                                      uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // Adds a document with its first pages, or owner and pages to the document that is there already.
  // Quotas are not looked at: Reserve() did.
  DocumentInfo Put(std::shared_ptr<const DocumentContent> content,
                   std::shared_ptr<const ReadDocument> read, const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The same content was uploaded again, by an owner that has it, or by another, whose quota must
  // allow it: it lives at least as long as `options` say. Nothing if the document is not here.
  absl::StatusOr<std::optional<DocumentInfo>> Renew(const std::string& id,
                                                    const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Pages of a further policy; the oldest beyond four are dropped. No-op if the document has gone,
  // has pages of that policy, or an owner's quota is full.
  void AddRead(const std::string& id, std::shared_ptr<const ReadDocument> read)
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

  // Drops the least recently used document that is neither pinned nor in use; false if there is
  // none.
  bool EvictOne() ABSL_LOCKS_EXCLUDED(mutex_);
  void DropExpired() ABSL_LOCKS_EXCLUDED(mutex_);

  // Some documents are in use and may be evicted later.
  bool AnyInUse() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // What one owner has said about a document.
  struct Holding {
    std::string title;
    bool pinned = false;
    absl::Time created;
    absl::Time expires;
  };
  struct Entry {
    std::shared_ptr<const DocumentContent> content;
    std::vector<std::shared_ptr<const ReadDocument>> reads;
    std::map<std::string, Holding> holdings;  // by owner; never empty
    absl::Time last_used;
    std::shared_ptr<int> hold = std::make_shared<int>(0);  // its use count less one: leases

    bool pinned() const;
    uint64_t bytes() const;
  };
  struct Usage {
    uint64_t bytes = 0;
    uint64_t documents = 0;
  };
  using Entries = std::map<std::string, Entry>;

  static DocumentInfo InfoOf(const Entry& entry, const Holding& holding);
  absl::Status Missing(const std::string& id, const std::string& owner) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The document, if `owner` has it and it has not expired.
  Entries::iterator FindLive(const std::string& id, const std::string& owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Usage UsageOf(const std::string& owner) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckQuota(const std::string& owner, uint64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Holding& Hold(Entry& entry, const DocumentOptions& options) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const std::string& id, const std::string& owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Entries::iterator entry, EvictionReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the holdings that have expired, and the documents that nobody holds any more.
  void Expire(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock* const clock_;
  ServerMetrics* const metrics_;
  const DocumentStoreOptions options_;
  mutable Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_expiry_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // no holding's before
  std::map<std::string, Usage> reserved_ ABSL_GUARDED_BY(mutex_);            // by owner
  // Owner and id of what has left, so that NOT_FOUND can say so; bounded.
  using Gone = std::pair<std::string, std::string>;
  std::deque<Gone> gone_order_ ABSL_GUARDED_BY(mutex_);
  std::set<Gone> gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
