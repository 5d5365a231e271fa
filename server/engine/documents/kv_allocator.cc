#include "server/engine/documents/kv_allocator.h"

#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "server/engine/kv_cache/page_count.h"

namespace lectern {

absl::Status KvAllocator::NoRoom(uint64_t tokens, uint64_t bytes) const {
  ErrorDetails details{.reason = "CACHE_FULL",
                       .metadata = {{"bytes", absl::StrCat(bytes)},
                                    {"limit", absl::StrCat(pool_->budget())},
                                    {"used", absl::StrCat(pool_->used())}}};
  if (bytes <= pool_->budget() && store_->AnyInUse()) details.retry_after = absl::Seconds(1);
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("keys and values of ", tokens, " tokens take ", bytes, " bytes; ", pool_->used(),
                   " of ", pool_->budget(), " are in use by documents that may not be evicted"),
      details);
}

bool KvAllocator::TryAllocate(const ModelInfo& info, const std::vector<uint64_t>& tokens,
                              std::vector<PageSet>& sets) {
  std::vector<PageSet> allocated(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!pool_->Allocate(info.page_bytes, PagesFor(tokens[i], info), allocated[i])) return false;
  }
  sets = std::move(allocated);
  return true;
}

Task<absl::StatusOr<std::vector<PageSet>>> KvAllocator::Allocate(const Model& model,
                                                                 std::vector<uint64_t> tokens,
                                                                 StepOwner owner) {
  const ModelInfo& info = model.info();
  uint64_t bytes = 0;
  for (const uint64_t count : tokens) {
    bytes += PagePool::Cost(info.page_bytes, PagesFor(count, info));
  }
  const uint64_t all_tokens = std::accumulate(tokens.begin(), tokens.end(), uint64_t{0});
  while (true) {
    const uint64_t used = pool_->used();
    if (bytes > pool_->budget()) co_return NoRoom(all_tokens, bytes);
    std::vector<PageSet> sets;
    if (TryAllocate(info, tokens, sets)) co_return std::move(sets);
    const DocumentStore::Eviction evicted = store_->EvictOne();
    if (evicted == DocumentStore::Eviction::kDone) continue;
    if (evicted == DocumentStore::Eviction::kSaving) {
      std::function<bool()> saved = [this] {
        return store_->EvictOne() != DocumentStore::Eviction::kSaving;
      };
      const absl::Status waited = co_await scheduler_->WaitUntil(std::move(saved), owner);
      if (!waited.ok()) co_return waited;
      continue;
    }
    // Another job may give back pages, or a document.
    const uint64_t ended = scheduler_->jobs_ended();
    std::function<bool()> changed = [this, used, ended] {
      return pool_->used() < used || scheduler_->jobs_ended() != ended;
    };
    const absl::Status waited = co_await scheduler_->WaitForMemory(std::move(changed), owner);
    if (absl::IsAborted(waited)) co_return NoRoom(all_tokens, bytes);
    if (!waited.ok()) co_return waited;
  }
}

}  // namespace lectern
