// The white space and word characters next to a token in a text.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/utf8.h"
#include "server/tokenizer/text/unicode.h"

namespace lectern {

// The bytes of white space that a text begins with.
inline size_t LeadingSpaces(std::string_view text) {
  size_t at = 0;
  while (at < text.size() && IsSpace(Utf8CodePoint(text.substr(at)))) {
    at += Utf8CharLength(text.substr(at));
  }
  return at;
}

// The size of a text without the white space at its end.
inline size_t WithoutTrailingSpaces(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t last = end - 1;
    while (last > 0 && !IsUtf8Boundary(text, last)) --last;
    if (!IsSpace(Utf8CodePoint(text.substr(last)))) break;
    end = last;
  }
  return end;
}

// True if no word reaches over either end of [begin, end).
inline bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  if (end < text.size() && IsWord(Utf8CodePoint(text.substr(end)))) return false;
  if (begin == 0) return true;
  size_t last = begin - 1;
  while (last > 0 && !IsUtf8Boundary(text, last)) --last;
  return !IsWord(Utf8CodePoint(text.substr(last)));
}

}  // namespace lectern
