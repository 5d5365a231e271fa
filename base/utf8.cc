#include "base/utf8.h"

namespace lectern {
namespace {

// The kind of bytes at text[0]: a whole character, the beginning of one that the text cuts off, or
// ill-formed bytes. `length` is the bytes of the character, of the cut-off part, or of the maximal
// ill-formed part (>= 1).
enum class Kind { kWhole, kCut, kIllFormed };
struct Scan {
  Kind kind;
  size_t length;
};

Scan ScanChar(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Kind::kWhole, 1};
  size_t length;
  unsigned char low = 0x80, high = 0xBF;  // allowed range of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Kind::kIllFormed, 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size()) return {Kind::kCut, i};
    if (byte(i) < low || byte(i) > high) return {Kind::kIllFormed, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kWhole, length};
}

}  // namespace

size_t Utf8CharLength(std::string_view text) {
  if (text.empty()) return 0;
  const Scan scan = ScanChar(text);
  return scan.kind == Kind::kWhole ? scan.length : 0;
}

size_t Utf8ValidPrefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t length = Utf8CharLength(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

bool IsUtf8Boundary(std::string_view text, size_t offset) {
  if (offset == 0 || offset == text.size()) return true;
  if (offset > text.size()) return false;
  return (static_cast<unsigned char>(text[offset]) & 0xC0) != 0x80;
}

size_t Utf8IllFormedLength(std::string_view text) { return ScanChar(text).length; }

char32_t Utf8CodePoint(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return lead;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t code_point = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) code_point = code_point << 6 | (byte(i) & 0x3Fu);
  return code_point;
}

void AppendUtf8(char32_t code_point, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | code_point >> 12));
    tail(6), tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | code_point >> 18));
    tail(12), tail(6), tail(0);
  }
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  while (at < text.size()) {
    const Scan scan = ScanChar(text.substr(at));
    if (scan.kind == Kind::kWhole) {
      out.append(text.substr(at, scan.length));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    at += scan.length;
  }
  return out;
}

bool Utf8StreamValidator::Append(std::string_view bytes) {
  if (!ok_) return false;
  // Only the few bytes that complete a pending character are copied.
  while (!pending_.empty() && !bytes.empty()) {
    pending_.push_back(bytes.front());
    bytes.remove_prefix(1);
    const Scan scan = ScanChar(pending_);
    if (scan.kind == Kind::kIllFormed) return ok_ = false;
    if (scan.kind == Kind::kWhole) {
      valid_bytes_ += scan.length;
      pending_.clear();
    }
  }
  size_t at = 0;
  while (at < bytes.size()) {
    const Scan scan = ScanChar(bytes.substr(at));
    if (scan.kind == Kind::kIllFormed) {
      valid_bytes_ += at;
      return ok_ = false;
    }
    if (scan.kind == Kind::kCut) break;
    at += scan.length;
  }
  valid_bytes_ += at;
  pending_.append(bytes.substr(at));
  return true;
}

}  // namespace lectern
