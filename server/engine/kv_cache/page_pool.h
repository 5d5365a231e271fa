// Memory for keys and values: pages of fixed size from one budget.
//
// Each page size (one per model) has an arena of reserved address space. Memory is taken when a
// page is first written, and given back when the page is free, except for a few pages. A pool that
// is populated takes all memory at startup and keeps it. All arenas share one budget in bytes:
// neither the pages that are handed out nor the memory taken, including free pages that are kept,
// ever exceeds it (except for rounding to huge pages, 2 MiB for each page size). An allocation that
// does not fit is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"

namespace lectern {

class PagePool;

// Pages of one sequence or document, which go back to the pool when it is destroyed. Move-only. The
// pool must outlive it. Addresses stay valid as long as the set lives.
class PageSet {
 public:
  PageSet() = default;
  PageSet(PageSet&& other) noexcept;
  PageSet& operator=(PageSet&& other) noexcept;
  ~PageSet();

  size_t size() const { return pages_.size(); }
  std::span<std::byte* const> pages() const { return pages_; }
  uint64_t bytes() const { return bytes_; }

 private:
  friend class PagePool;
  PagePool* pool_ = nullptr;
  size_t page_bytes_ = 0;
  uint64_t bytes_ = 0;  // as counted against the budget
  std::vector<std::byte*> pages_;
};

// Thread-safe.
class PagePool {
 public:
  explicit PagePool(uint64_t budget_bytes) : budget_(budget_bytes) {}
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // Reserves the address space for pages of that size now. With `populate`, which may be set for
  // one page size before anything is allocated, it also takes the memory of the whole budget.
  // RESOURCE_EXHAUSTED if the machine does not have it; the pool then takes memory as needed.
  absl::Status Reserve(size_t page_bytes, bool populate) ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns false, and leaves `out` as it is, if the budget has no room for `count` pages now.
  // Pages are zeroed: nothing of another document is left in them.
  bool Allocate(size_t page_bytes, size_t count, PageSet& out) ABSL_LOCKS_EXCLUDED(mutex_);

  // Bytes of the budget that `count` pages take. Page sizes are rounded up to the system's.
  static uint64_t Cost(size_t page_bytes, size_t count);

  uint64_t budget() const { return budget_; }
  uint64_t used() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Bytes of memory taken: used pages, and free pages that are kept.
  uint64_t resident() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class PageSet;
  struct Arena {
    std::byte* base = nullptr;
    size_t stride = 0;
    size_t capacity = 0;          // pages
    size_t touched = 0;           // pages ever handed out or populated
    std::deque<std::byte*> warm;  // free pages with memory; the most recently used are last
    std::deque<std::byte*> cold;  // free pages whose memory was given back
  };
  void Free(PageSet& set) ABSL_LOCKS_EXCLUDED(mutex_);
  Arena* ArenaFor(size_t page_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveBackOldest(Arena& arena) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t budget_;
  mutable Mutex mutex_;
  uint64_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t warm_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool keep_all_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<size_t, Arena> arenas_ ABSL_GUARDED_BY(mutex_);  // by stride
};

}  // namespace lectern
