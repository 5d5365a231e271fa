// Uninitialised, cache-line-aligned memory that only grows. Large buffers ask the kernel for huge
// pages, because streaming through weights in small pages spends time on address translation.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace lectern {

// Owns `capacity` objects of a trivial type. Movable; Reserve() is not thread-safe.
template <typename T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t count) { Reserve(count); }

  // Returns room for `count` objects. Growing discards the old contents.
  T* Reserve(size_t count) {
    if (count > capacity_) {
      constexpr size_t kCacheLine = 64, kHugePage = 2 << 20;
      const bool huge = count * sizeof(T) >= 8 * kHugePage;
      const size_t alignment = huge ? kHugePage : kCacheLine;
      const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
      data_.reset();
      data_.reset(static_cast<T*>(std::aligned_alloc(alignment, bytes)));
      if (data_ == nullptr) throw std::bad_alloc();
      if (huge) madvise(data_.get(), bytes, MADV_HUGEPAGE);  // advice only
      capacity_ = count;
    }
    return data_.get();
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t capacity() const { return capacity_; }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T, Free> data_;
  size_t capacity_ = 0;
};

}  // namespace lectern
