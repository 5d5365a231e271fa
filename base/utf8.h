// UTF-8, as the Unicode standard (section 3.9, table 3-7) defines it: no surrogates, no overlong
// forms, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lectern {

// Length of the well-formed character at text[0] (1..4), or 0 if it is ill-formed or cut off.
size_t Utf8CharLength(std::string_view text);

// Bytes of the maximal well-formed prefix.
size_t Utf8ValidPrefix(std::string_view text);
inline bool IsValidUtf8(std::string_view text) { return Utf8ValidPrefix(text) == text.size(); }

// True at 0, at text.size() and before every byte that does not continue a character.
bool IsUtf8Boundary(std::string_view text, size_t offset);

// Bytes (1..3) of the maximal ill-formed part at text[0], which is not a whole character.
size_t Utf8IllFormedLength(std::string_view text);

// Replaces each maximal ill-formed part by U+FFFD, as Unicode recommends.
std::string ReplaceInvalidUtf8(std::string_view text);

// The code point of the well-formed character that `text` begins with, and the reverse.
char32_t Utf8CodePoint(std::string_view text);
void AppendUtf8(char32_t code_point, std::string& out);

// Checks a stream of bytes that may be cut anywhere. Not thread-safe.
class Utf8StreamValidator {
 public:
  // False from the first ill-formed byte on; valid_bytes() is then its offset.
  bool Append(std::string_view bytes);
  // True if the stream does not end inside a character.
  bool Complete() const { return ok_ && pending_.empty(); }
  uint64_t valid_bytes() const { return valid_bytes_; }

 private:
  bool ok_ = true;
  uint64_t valid_bytes_ = 0;  // bytes of whole characters seen
  std::string pending_;       // at most 3 bytes of a character not yet complete
};

}  // namespace lectern
