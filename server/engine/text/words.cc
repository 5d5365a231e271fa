#include "server/engine/text/words.h"

#include <cstddef>
#include <utility>

#include "base/utf8.h"

namespace lectern {
namespace {

bool IsWordCharacter(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  if (c <= 0xBF) return c == 0xAA || c == 0xB5 || c == 0xBA;  // the letters of this Latin-1 block
  if (c == 0xD7 || c == 0xF7) return false;                   // multiplication and division signs
  if (c >= 0x2000 && c <= 0x206F) return false;               // General Punctuation
  if (c >= 0x3000 && c <= 0x303F) return c >= 0x3005 && c <= 0x3007;  // CJK punctuation
  if (c >= 0xFF00 && c <= 0xFF65) {  // full-width forms of ASCII: digits and letters only
    return (c >= 0xFF10 && c <= 0xFF19) || (c >= 0xFF21 && c <= 0xFF3A) ||
           (c >= 0xFF41 && c <= 0xFF5A);
  }
  return true;
}

char32_t LowerCase(char32_t c) {
  const bool upper =
      (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7);  // ASCII, Latin-1
  return upper ? c + 0x20 : c;
}

}  // namespace

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  while (!text.empty()) {
    const size_t length = Utf8CharLength(text);
    const char32_t c = length > 0 ? Utf8CodePoint(text) : U' ';
    text.remove_prefix(length > 0 ? length : 1);
    if (IsWordCharacter(c)) {
      AppendUtf8(LowerCase(c), word);
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, {}));
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

}  // namespace lectern
