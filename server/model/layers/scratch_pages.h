// Pages for keys and values that are not needed after the layer: an encoder's self-attention.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/kv/kv_pages.h"

namespace lectern {

// Grows to the largest call and is then reused. Not thread-safe.
class ScratchPages {
 public:
  // Allocates pages for sequences of `sizes` tokens; earlier contents are lost.
  void Reserve(const kernels::KvPageLayout& layout, std::span<const int64_t> sizes) {
    int64_t count = 0;
    for (const int64_t size : sizes) count += kernels::KvPageLayout::PagesFor(size);
    std::byte* at = memory_.Reserve(static_cast<size_t>(count) * layout.PageBytes());
    pages_.clear();
    first_.clear();
    for (const int64_t size : sizes) {
      first_.push_back(pages_.size());
      for (int64_t page = 0; page < kernels::KvPageLayout::PagesFor(size); ++page) {
        pages_.push_back(at);
        at += layout.PageBytes();
      }
    }
  }

  // The pages of sequence `index`.
  std::byte* const* Of(size_t index) const { return pages_.data() + first_[index]; }

 private:
  AlignedBuffer<std::byte> memory_;
  std::vector<std::byte*> pages_;
  std::vector<size_t> first_;
};

}  // namespace lectern
