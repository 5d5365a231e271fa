// Documents that have been read: text, tokens, sentences, and for each policy they were read under
// the pages of their keys and values. Content-addressed; read-only pages shared by all questions.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
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

// How a stored document is kept.
struct DocumentOptions {
  std::string title;
  bool pinned = false;
  absl::Duration ttl = absl::InfiniteDuration();
};

// Thread-safe.
class DocumentStore {
 public:
  DocumentStore(const Clock* clock, ServerMetrics* metrics) : clock_(clock), metrics_(metrics) {}

  // A document in use: it is not evicted, and its memory outlives its deletion.
  class Lease {
   public:
    Lease() = default;
    explicit operator bool() const { return content_ != nullptr; }
    const DocumentContent& content() const { return *content_; }

   private:
    friend class DocumentStore;
    std::shared_ptr<const DocumentContent> content_;
    std::shared_ptr<void> hold_;
    std::vector<std::shared_ptr<const ReadDocument>> reads_;
  };

  // NOT_FOUND: DOCUMENT_NOT_FOUND, or DOCUMENT_EVICTED if it was here once. Counts as a use.
  absl::StatusOr<Lease> Use(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  // The document's pages of that reading under `policy`, or null. Sees pages that were added after
  // Use().
  std::shared_ptr<const ReadDocument> Find(const Lease& lease, Reading reading,
                                           const AttentionPolicy& policy) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool Has(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Adds a document with its first pages, or those pages to the document that is there already.
  DocumentInfo Put(std::shared_ptr<const DocumentContent> content,
                   std::shared_ptr<const ReadDocument> read, const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The same content was uploaded again: it lives at least as long as `options` say. Nothing if it
  // is not here.
  std::optional<DocumentInfo> Renew(const std::string& id, const DocumentOptions& options)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Pages of a further policy; the oldest beyond four are dropped. No-op if the document has gone
  // or has pages of that policy.
  void AddRead(const std::string& id, std::shared_ptr<const ReadDocument> read)
      ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<DocumentInfo> Get(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<DocumentPage> List(uint32_t page_size, const std::string& page_token,
                                    const std::string& model) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<uint64_t> Delete(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Drops the least recently used document that is neither pinned nor in use; false if there is
  // none.
  bool EvictOne() ABSL_LOCKS_EXCLUDED(mutex_);
  void DropExpired() ABSL_LOCKS_EXCLUDED(mutex_);

  // Some documents are in use and may be evicted later.
  bool AnyInUse() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    std::shared_ptr<const DocumentContent> content;
    std::vector<std::shared_ptr<const ReadDocument>> reads;
    DocumentOptions options;
    absl::Time created;
    absl::Time last_used;
    absl::Time expires;
    std::shared_ptr<int> hold = std::make_shared<int>(0);  // its use count less one: leases
  };
  using Entries = std::map<std::string, Entry>;

  DocumentInfo InfoOf(const Entry& entry) const;
  absl::Status Missing(const std::string& id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Entries::iterator FindLive(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Entries::iterator entry, EvictionReason reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetExpiry(Entry& entry) const;

  const Clock* const clock_;
  ServerMetrics* const metrics_;
  mutable Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  // Ids that have left, so that NOT_FOUND can say so; bounded.
  std::deque<std::string> gone_order_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
