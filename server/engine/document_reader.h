// Reads documents: computes their keys and values, finds room for them.
// Used by the worker alone.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/engine/document_store.h"
#include "server/engine/page_pool.h"
#include "server/engine/stepper.h"

namespace lectern {

class DocumentReader {
 public:
  DocumentReader(PagePool* pool, DocumentStore* store, Stepper* stepper, ServerMetrics* metrics)
      : pool_(pool), store_(store), stepper_(stepper), metrics_(metrics) {}

  // Pages for `tokens` tokens, evicting documents if need be. RESOURCE_EXHAUSTED (CACHE_FULL) when
  // there is no room; with RetryInfo when there may be later.
  absl::StatusOr<PageSet> AllocatePages(const Model& model, uint64_t tokens);

  // Computes the document's keys and values under `policy`.
  absl::StatusOr<std::shared_ptr<const ReadDocument>> Read(
      const DocumentContent& content, const AttentionPolicy& policy, const QueuedJob& job,
      WorkStage stage, const std::function<void(uint64_t)>& progress);

 private:
  PagePool* const pool_;
  DocumentStore* const store_;
  Stepper* const stepper_;
  ServerMetrics* const metrics_;
};

}  // namespace lectern
