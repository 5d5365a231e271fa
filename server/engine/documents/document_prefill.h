// Reads documents: tokenises them, computes their keys and values, finds room for them. Used by the
// worker's coroutines.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/documents/document.h"
#include "server/engine/documents/document_store.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/engine/scheduling/scheduler.h"
#include "server/engine/scheduling/task.h"

namespace lectern {

class DocumentPrefill {
 public:
  DocumentPrefill(PagePool* pool, DocumentStore* store, Scheduler* scheduler,
                  ServerMetrics* metrics)
      : pool_(pool), store_(store), scheduler_(scheduler), metrics_(metrics) {}

  // Tokens, sentences and chunks of a text, made on the background thread.
  Task<absl::StatusOr<std::shared_ptr<const DocumentContent>>> Prepare(
      std::shared_ptr<const Model> model, std::string text, std::string sha256, StepOwner owner);

  // The lease with its document in memory: DocumentStore::MakeResident on the background thread.
  Task<absl::StatusOr<DocumentStore::Lease>> MakeResident(DocumentStore::Lease lease,
                                                          StepOwner owner);
  // The document's pages from disk, read on the background thread; null if they are not there.
  Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> Load(DocumentStore::Lease lease,
                                                               ReadingMode reading,
                                                               AttentionPolicy policy,
                                                               StepOwner owner);

  // Pages for sequences of so many tokens, all of them or none; evicts documents, and waits for
  // other jobs, if need be. RESOURCE_EXHAUSTED (CACHE_FULL): with RetryInfo when there may be room
  // later.
  Task<absl::StatusOr<std::vector<PageSet>>> AllocatePages(const Model& model,
                                                           std::vector<uint64_t> tokens,
                                                           StepOwner owner);

  // Computes the document's keys and values. `progress` hears of tokens done, of all parts
  // together.
  Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> Read(
      std::shared_ptr<const DocumentContent> content, ReadingMode reading, AttentionPolicy policy,
      StepOwner owner, Scheduler::Progress progress);

  // What a job is reading for all. Others wait until it is in the store, and look there again.
  struct Key {
    std::string document_id;
    ReadingMode reading;
    AttentionPolicy policy;
    bool operator==(const Key&) const = default;
  };
  bool IsReading(const Key& key) const;
  void Begin(const Key& key) { reading_.push_back(key); }
  void End(const Key& key) { std::erase(reading_, key); }

 private:
  absl::Status NoRoom(const Model& model, uint64_t tokens, uint64_t bytes) const;

  PagePool* const pool_;
  DocumentStore* const store_;
  Scheduler* const scheduler_;
  ServerMetrics* const metrics_;
  std::vector<Key> reading_;
};

}  // namespace lectern
