// Makes documents ready to be asked about: tokenises them, computes their keys and values once for
// all jobs that want them, and brings them back from disk.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/engine/documents/document.h"
#include "server/engine/documents/document_store.h"
#include "server/engine/documents/kv_allocator.h"
#include "server/engine/documents/single_flight.h"
#include "server/engine/scheduling/scheduler.h"
#include "server/engine/scheduling/task.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

// Used by the worker's coroutines alone. Errors of every method: those of the job that should stop
// (QueuedJob::Check()), of the allocator, and of the model.
class DocumentPrefill {
 public:
  DocumentPrefill(const Clock* clock, ServerMetrics* metrics, DocumentStore* store,
                  KvAllocator* allocator, Scheduler* scheduler)
      : clock_(clock),
        metrics_(metrics),
        store_(store),
        allocator_(allocator),
        scheduler_(scheduler),
        flights_(scheduler) {}

  // Tokens, sentences and chunks of a text, made on the background thread.
  Task<absl::StatusOr<std::shared_ptr<const DocumentContent>>> Prepare(
      std::shared_ptr<const Model> model, std::string text, std::string sha256, StepOwner owner);

  // The lease with its document in memory: DocumentStore::MakeResident on the background thread.
  Task<absl::StatusOr<DocumentStore::Lease>> MakeResident(DocumentStore::Lease lease,
                                                          StepOwner owner);

  // Computes a document's keys and values for the caller alone. `progress` is called with the
  // tokens done, of all parts together.
  Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> Compute(
      std::shared_ptr<const DocumentContent> content, ReadingMode reading, AttentionPolicy policy,
      StepOwner owner, Scheduler::Progress progress);

  // The keys and values of a stored, resident document: from memory, from disk, or computed, once
  // for all jobs that want them at the same time, and then stored.
  struct Found {
    std::shared_ptr<const DocumentKv> kv;
    bool computed = false;  // by this call
  };
  Task<absl::StatusOr<Found>> FindOrCompute(DocumentStore::Lease lease, ReadingMode reading,
                                            AttentionPolicy policy, StepOwner owner,
                                            Scheduler::Progress progress);

  // Stores a document: one that is there already is kept for its new owner too; another is computed
  // and put into the store, once for all jobs that want it at the same time. RESOURCE_EXHAUSTED
  // (CLIENT_QUOTA) if the owner's limits do not allow it.
  Task<absl::StatusOr<DocumentInfo>> Store(std::shared_ptr<const DocumentContent> content,
                                           ReadingMode reading, AttentionPolicy policy,
                                           DocumentOptions keep, StepOwner owner,
                                           Scheduler::Progress progress);

 private:
  // The document's pages from disk, read on the background thread; null if they are not there.
  Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> Load(DocumentStore::Lease lease,
                                                               ReadingMode reading,
                                                               AttentionPolicy policy,
                                                               StepOwner owner);

  const Clock* const clock_;
  ServerMetrics* const metrics_;
  DocumentStore* const store_;
  KvAllocator* const allocator_;
  Scheduler* const scheduler_;
  SingleFlight flights_;
};

}  // namespace lectern
