#include "server/tokenizer/bpe/byte_alphabet.h"

#include "base/utf8.h"

namespace lectern {
namespace {

constexpr bool Printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
         (byte >= 0xae && byte <= 0xff);
}

std::array<int, 256> CodePoints() {
  std::array<int, 256> points{};
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) points[byte] = Printable(byte) ? byte : next++;
  return points;
}

std::string EncodeTwoByteUtf8(int point) {
  if (point < 0x80) return std::string(1, static_cast<char>(point));
  return {static_cast<char>(0xc0 | (point >> 6)), static_cast<char>(0x80 | (point & 0x3f))};
}

// Code points reach 0x143; the inverse maps code points to bytes, or to -1.
std::array<int, 0x180> BytesByPoint() {
  std::array<int, 0x180> bytes;
  bytes.fill(-1);
  const std::array<int, 256> points = CodePoints();
  for (int byte = 0; byte < 256; ++byte) bytes[points[byte]] = byte;
  return bytes;
}

}  // namespace

const std::array<std::string, 256>& ByteAlphabet() {
  static const std::array<std::string, 256> alphabet = [] {
    std::array<std::string, 256> texts;
    const std::array<int, 256> points = CodePoints();
    for (int byte = 0; byte < 256; ++byte) texts[byte] = EncodeTwoByteUtf8(points[byte]);
    return texts;
  }();
  return alphabet;
}

std::optional<std::string> BytesOfToken(std::string_view text) {
  static const std::array<int, 0x180> by_point = BytesByPoint();
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = text[i];
    int point = lead;
    size_t length = 1;
    if (lead >= 0x80) {
      if (Utf8CharLength(text.substr(i)) != 2) return std::nullopt;
      point = (lead & 0x1f) << 6 | (static_cast<unsigned char>(text[i + 1]) & 0x3f);
      length = 2;
    }
    if (point >= static_cast<int>(by_point.size()) || by_point[point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(by_point[point]));
    i += length;
  }
  return bytes;
}

}  // namespace lectern
