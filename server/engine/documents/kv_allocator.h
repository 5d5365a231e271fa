// Allocates pages for jobs, making room if need be.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/documents/document_store.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/engine/scheduling/scheduler.h"
#include "server/engine/scheduling/task.h"

namespace lectern {

// Used by the worker's coroutines alone.
class KvAllocator {
 public:
  KvAllocator(PagePool* pool, DocumentStore* store, Scheduler* scheduler)
      : pool_(pool), store_(store), scheduler_(scheduler) {}

  // Pages for sequences of these numbers of tokens, all of them or none. Evicts documents, and
  // waits for other jobs, if need be. RESOURCE_EXHAUSTED (CACHE_FULL): with RetryInfo if there may
  // be room later.
  Task<absl::StatusOr<std::vector<PageSet>>> Allocate(const Model& model,
                                                      std::vector<uint64_t> tokens,
                                                      StepOwner owner);

 private:
  bool TryAllocate(const ModelInfo& info, const std::vector<uint64_t>& tokens,
                   std::vector<PageSet>& sets);
  absl::Status NoRoom(uint64_t tokens, uint64_t bytes) const;

  PagePool* const pool_;
  DocumentStore* const store_;
  Scheduler* const scheduler_;
};

}  // namespace lectern
