#include "server/engine/page_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

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
  // A page of tokens is read layer by layer, a few kilobytes at a time, far apart: with small
  // pages of memory nearly every step would be a miss in the address translation. Advice only.
  madvise(base, capacity * stride, MADV_HUGEPAGE);
  arena = {static_cast<std::byte*>(base), stride, capacity, 0, {}};
  return &arena;
}

bool PagePool::Allocate(size_t page_bytes, size_t count, PageSet& out) {
  PageSet set;
  {
    MutexLock lock(&mutex_);
    const uint64_t bytes = Cost(page_bytes, count);
    if (bytes > budget_ - used_) return false;
    Arena* arena = ArenaFor(page_bytes);
    if (arena == nullptr) return false;
    used_ += bytes;
    for (size_t i = 0; i < count; ++i) {
      if (!arena->free.empty()) {
        set.pages_.push_back(arena->free.back());
        arena->free.pop_back();
      } else {
        set.pages_.push_back(arena->base + arena->touched++ * arena->stride);
      }
    }
    set.pool_ = this;
    set.page_bytes_ = page_bytes;
    set.bytes_ = bytes;
  }
  out = std::move(set);
  return true;
}

void PagePool::Free(PageSet& set) {
  MutexLock lock(&mutex_);
  Arena& arena = arenas_.at(Stride(set.page_bytes_));
  for (std::byte* page : set.pages_) {
    // The pages freed first go back to the system; the free list hands out the warm ones.
    if (arena.free.size() >= kWarmPages) {
      madvise(page, arena.stride, MADV_DONTNEED);
      arena.free.push_front(page);
    } else {
      arena.free.push_back(page);
    }
  }
  used_ -= set.bytes_;
  set.pool_ = nullptr;
  set.pages_.clear();
}

}  // namespace lectern
