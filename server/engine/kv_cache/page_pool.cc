#include "server/engine/kv_cache/page_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/engine/fault_points.h"

namespace lectern {
namespace {

// Free pages whose memory is kept for the next question.
constexpr size_t kWarmPages = 16;

size_t Stride(size_t page_bytes) {
  static const size_t system_page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (page_bytes + system_page - 1) / system_page * system_page;
}

}  // namespace

PageSet::PageSet(PageSet&& other) noexcept { *this = std::move(other); }

PageSet& PageSet::operator=(PageSet&& other) noexcept {
  if (this == &other) return *this;
  if (pool_ != nullptr) pool_->Free(*this);
  pool_ = std::exchange(other.pool_, nullptr);
  page_bytes_ = other.page_bytes_;
  bytes_ = std::exchange(other.bytes_, 0);
  pages_ = std::exchange(other.pages_, {});
  return *this;
}

PageSet::~PageSet() {
  if (pool_ != nullptr) pool_->Free(*this);
}

PagePool::~PagePool() {
  for (auto& [stride, arena] : arenas_) munmap(arena.base, arena.capacity * arena.stride);
}

uint64_t PagePool::Cost(size_t page_bytes, size_t count) {
  return static_cast<uint64_t>(Stride(page_bytes)) * count;
}

uint64_t PagePool::used() const {
  MutexLock lock(&mutex_);
  return used_;
}

PagePool::Arena* PagePool::ArenaFor(size_t page_bytes) {
  const size_t stride = Stride(page_bytes);
  Arena& arena = arenas_[stride];
  if (arena.base != nullptr) return &arena;
  const size_t capacity = budget_ / stride;
  void* base = capacity == 0 ? MAP_FAILED
                             : mmap(nullptr, capacity * stride, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    arenas_.erase(stride);
    return nullptr;
  }
  // A page of tokens is read layer by layer, a few kilobytes at a time and far apart. With small
  // memory pages nearly every read would miss the TLB. This is only advice.
  madvise(base, capacity * stride, MADV_HUGEPAGE);
  arena = {.base = static_cast<std::byte*>(base), .stride = stride, .capacity = capacity};
  return &arena;
}

uint64_t PagePool::resident() const {
  MutexLock lock(&mutex_);
  return used_ + warm_bytes_;
}

absl::Status PagePool::Reserve(size_t page_bytes, bool populate) {
  MutexLock lock(&mutex_);
  Arena* arena = ArenaFor(page_bytes);
  if (arena == nullptr) {
    return absl::ResourceExhaustedError("no address space for keys and values");
  }
  if (!populate || used_ + warm_bytes_ > 0) return absl::OkStatus();
  if (madvise(arena->base, arena->capacity * arena->stride, MADV_POPULATE_WRITE) != 0) {
    const int error = errno;
    madvise(arena->base, arena->capacity * arena->stride, MADV_DONTNEED);
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for keys and values (", budget_, " bytes): ", strerror(error)));
  }
  keep_all_ = true;
  for (; arena->touched < arena->capacity; ++arena->touched) {
    arena->warm.push_front(arena->base + arena->touched * arena->stride);
  }
  warm_bytes_ = arena->capacity * arena->stride;
  return absl::OkStatus();
}

// Gives back the memory of the least recently used free page.
void PagePool::GiveBackOldest(Arena& arena) {
  std::byte* const page = arena.warm.front();
  arena.warm.pop_front();
  madvise(page, arena.stride, MADV_DONTNEED);
  arena.cold.push_back(page);
  warm_bytes_ -= arena.stride;
}

bool PagePool::Allocate(size_t page_bytes, size_t count, PageSet& out) {
  PageSet set;
  size_t warm = 0;  // the first pages of the set, which have been used before
  {
    MutexLock lock(&mutex_);
    const uint64_t bytes = Cost(page_bytes, count);
    if (bytes > budget_ - used_) return false;
    Arena* arena = ArenaFor(page_bytes);
    if (arena == nullptr) return false;
    used_ += bytes;
    for (; warm < count && !arena->warm.empty(); ++warm) {
      set.pages_.push_back(arena->warm.back());
      arena->warm.pop_back();
      warm_bytes_ -= arena->stride;
    }
    while (set.pages_.size() < count) {
      if (!arena->cold.empty()) {
        set.pages_.push_back(arena->cold.back());
        arena->cold.pop_back();
      } else {
        set.pages_.push_back(arena->base + arena->touched++ * arena->stride);
      }
    }
    // Free pages of other sizes make room. This size has none left if room is needed.
    for (auto& [stride, other] : arenas_) {
      while (used_ + warm_bytes_ > budget_ && !other.warm.empty()) GiveBackOldest(other);
    }
    set.pool_ = this;
    set.page_bytes_ = page_bytes;
    set.bytes_ = bytes;
  }
  for (size_t i = 0; i < warm; ++i) std::memset(set.pages_[i], 0, page_bytes);
  out = std::move(set);
  return true;
}

void PagePool::Free(PageSet& set) {
  DelayPoint(Fault::kRelease);
  MutexLock lock(&mutex_);
  Arena& arena = arenas_.at(Stride(set.page_bytes_));
  for (std::byte* page : set.pages_) {
    arena.warm.push_back(page);
    warm_bytes_ += arena.stride;
    if (!keep_all_ && arena.warm.size() > kWarmPages) GiveBackOldest(arena);
  }
  used_ -= set.bytes_;
  set.pool_ = nullptr;
  set.pages_.clear();
}

}  // namespace lectern
