// Releases the bytes of tokens only in whole UTF-8 characters.
#pragma once

#include <string>
#include <string_view>

namespace lectern {

// An invalid byte becomes U+FFFD as soon as it is known to be invalid. Not thread-safe.
class WholeCharacters {
 public:
  // Returns the text that is complete after these bytes; may be empty.
  std::string Append(std::string_view bytes);
  // Returns the remaining text at the end (an unfinished character becomes U+FFFD).
  std::string Finish();

 private:
  std::string Release(bool all);
  bool CouldGrow() const;

  std::string pending_;
};

}  // namespace lectern
