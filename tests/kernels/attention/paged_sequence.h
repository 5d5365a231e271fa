// A sequence's keys and values in separate pages, for tests and benchmarks of attention.
#pragma once

#include <cstdlib>
#include <vector>

#include "kernels/kv/kv_pages.h"

namespace lectern::kernels {

class PagedSequence {
 public:
  PagedSequence(const KvPageLayout& layout, int64_t max_tokens) : layout_(layout) {
    for (int64_t i = 0; i < KvPageLayout::PagesFor(max_tokens); ++i) {
      pages_.push_back(static_cast<std::byte*>(std::aligned_alloc(64, layout.PageBytes())));
    }
  }
  ~PagedSequence() {
    for (std::byte* page : pages_) std::free(page);
  }
  PagedSequence(const PagedSequence&) = delete;
  PagedSequence& operator=(const PagedSequence&) = delete;

  // k [count, kv_heads, head_dim], v [count, kv_heads, value_dim].
  LaunchStatus Append(int layer, int64_t position, int64_t count, const float* k, const float* v) {
    return WriteKv(layout_, pages_.data(), layer, position, count, k,
                   static_cast<int64_t>(layout_.num_kv_heads) * layout_.head_dim, v,
                   static_cast<int64_t>(layout_.num_kv_heads) * layout_.value_dim,
                   ExecutionContext{});
  }
  KvPageTable Table(int64_t num_tokens) const { return {pages_.data(), num_tokens}; }
  std::byte* const* pages() const { return pages_.data(); }
  const KvPageLayout& layout() const { return layout_; }

 private:
  KvPageLayout layout_;
  std::vector<std::byte*> pages_;
};

}  // namespace lectern::kernels
