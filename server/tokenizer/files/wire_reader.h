// The wire format of protocol buffers, as far as model files use it: consecutive fields,
// read from untrusted bytes without building anything. No protobuf library is linked here; see
// docs/design/decisions.md.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace lectern {

// Yields the fields of one message:
//
//   WireReader reader(bytes);
//   while (reader.Next()) { if (reader.field() == 1 && reader.IsBytes()) use(reader.bytes()); }
//   if (!reader.ok()) ...  // damaged after the last field
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}

  // False at the end, and if the message is damaged.
  bool Next() {
    if (rest_.empty() || !ok_) return false;
    uint64_t tag = 0;
    ok_ = Varint(&tag) && tag >> 3 > 0 && tag >> 3 < (uint64_t{1} << 29);
    if (!ok_) return false;
    field_ = static_cast<uint32_t>(tag >> 3);
    type_ = static_cast<uint32_t>(tag & 7);
    switch (type_) {
      case kVarint:
        ok_ = Varint(&number_);
        break;
      case kFixed64:
        ok_ = Take(8);
        break;
      case kBytes: {
        uint64_t length = 0;
        ok_ = Varint(&length) && Take(length);
        break;
      }
      case kFixed32:
        ok_ = Take(4);
        break;
      default:  // groups are long out of use
        ok_ = false;
    }
    return ok_;
  }

  bool ok() const { return ok_; }
  uint32_t field() const { return field_; }

  bool IsNumber() const { return type_ == kVarint; }
  bool IsBytes() const { return type_ == kBytes; }
  bool IsFloat() const { return type_ == kFixed32; }

  uint64_t number() const { return number_; }
  std::string_view bytes() const { return bytes_; }
  float real() const {
    uint32_t bits;
    std::memcpy(&bits, bytes_.data(), sizeof(bits));
    return std::bit_cast<float>(bits);
  }

 private:
  enum : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  bool Varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const uint64_t byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      *value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool Take(uint64_t length) {
    if (length > rest_.size()) return false;
    bytes_ = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

  std::string_view rest_;
  bool ok_ = true;
  uint32_t field_ = 0;
  uint32_t type_ = 0;
  uint64_t number_ = 0;
  std::string_view bytes_;
};

}  // namespace lectern
