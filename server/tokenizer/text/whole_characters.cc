#include "server/tokenizer/text/whole_characters.h"

#include "base/utf8.h"

namespace lectern {

std::string WholeCharacters::Append(std::string_view bytes) {
  pending_ += bytes;
  return Release(false);
}

std::string WholeCharacters::Finish() { return Release(true); }

std::string WholeCharacters::Release(bool all) {
  std::string out;
  while (!pending_.empty()) {
    const size_t good = Utf8ValidPrefix(pending_);
    out.append(pending_, 0, good);
    pending_.erase(0, good);
    if (pending_.empty()) break;
    if (!all && CouldGrow()) break;
    // Ill-formed for certain: its maximal part becomes one U+FFFD.
    out += "\xef\xbf\xbd";
    pending_.erase(0, Utf8IllFormedLength(pending_));
  }
  return out;
}

// True if pending_ is the beginning of a character. A surrogate written in UTF-8 (ED A0..BF xx)
// is judged once all three of its bytes have arrived, as CPython's incremental decoder does.
bool WholeCharacters::CouldGrow() const {
  if (pending_.size() == 2 && pending_[0] == '\xed' && (pending_[1] & 0xe0) == 0xa0) return true;
  Utf8StreamValidator validator;
  return pending_.size() < 4 && validator.Append(pending_);
}

}  // namespace lectern
