// A cursor over untrusted little-endian bytes. Reading past the end fails; nothing is allocated.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace lectern {

static_assert(std::endian::native == std::endian::little, "model files are little-endian");

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  // Returns false and changes nothing if fewer bytes are left.
  template <typename T>
  bool Read(T* value) {
    if (left() < sizeof(T)) return false;
    std::memcpy(value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  bool ReadBytes(uint64_t count, std::string_view* bytes) {
    if (left() < count) return false;
    *bytes = bytes_.substr(position_, count);
    position_ += count;
    return true;
  }

 private:
  std::string_view bytes_;
  uint64_t position_ = 0;
};

}  // namespace lectern
