#include "server/engine/text/sentences.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/utf8.h"

namespace lectern {
namespace {

constexpr std::array<std::string_view, 26> kAbbreviations = {
    "mr", "mrs", "ms", "dr",  "prof", "st", "no", "vs",     "etc",  "inc", "ltd",  "co",  "jr",
    "sr", "fig", "eq", "sec", "vol",  "pp", "ed", "approx", "dept", "est", "capt", "gen", "lt"};

bool IsMark(char c) { return c == '.' || c == '!' || c == '?'; }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

bool IsCloser(std::string_view text, size_t at, size_t& length) {
  static constexpr std::array<std::string_view, 10> kClosers = {
      "\"",           "'",           ")", "]", "}", "\xe2\x80\x9d", "\xe2\x80\x99", "\xc2\xbb",
      "\xe3\x80\x8d", "\xef\xbc\x89"};
  for (const std::string_view closer : kClosers) {
    if (text.substr(at, closer.size()) == closer) {
      length = closer.size();
      return true;
    }
  }
  return false;
}

// Length of a CJK full stop, exclamation or question mark at `at`, or 0.
size_t WideMark(std::string_view text, size_t at) {
  const std::string_view three = text.substr(at, 3);
  const bool mark = three == "\xe3\x80\x82" || three == "\xef\xbc\x81" || three == "\xef\xbc\x9f";
  return mark ? 3 : 0;
}

// True if the full stop follows an abbreviation, a single capital, or a number that starts the
// sentence.
bool IsAbbreviation(std::string_view text, size_t sentence, size_t stop) {
  size_t word = stop;
  while (word > sentence && std::isalnum(static_cast<unsigned char>(text[word - 1]))) --word;
  std::string lower(text.substr(word, stop - word));
  if (lower.size() == 1 && std::isupper(static_cast<unsigned char>(lower[0]))) return true;
  if (word == sentence && !lower.empty() && lower.size() <= 3 &&
      std::all_of(lower.begin(), lower.end(), [](unsigned char c) { return std::isdigit(c); })) {
    return true;
  }
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kAbbreviations.begin(), kAbbreviations.end(), lower) != kAbbreviations.end();
}

// True if the text that follows a line break starts a new block.
bool StartsBlock(std::string_view text, size_t at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) ++at;
  if (at >= text.size()) return true;
  if (text[at] == '\n' || text[at] == '\r' || text[at] == '#' || text[at] == '|') return true;
  if ((text[at] == '-' || text[at] == '*') && at + 1 < text.size() && text[at + 1] == ' ') {
    return true;
  }
  size_t digits = at;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits]))) ++digits;
  return digits > at && digits + 1 < text.size() && (text[digits] == '.' || text[digits] == ')') &&
         text[digits + 1] == ' ';
}

class Splitter {
 public:
  explicit Splitter(std::string_view text) : text_(text) {}

  std::vector<ByteRange> Split() {
    size_t at = 0;
    while (at < text_.size()) {
      const size_t end = EndAt(at);
      if (end > at) {
        Close(end);
        at = end;
      } else {
        ++at;
      }
    }
    Close(text_.size());
    return std::move(ranges_);
  }

 private:
  // Where a sentence ends if it ends with the byte at `at`, else `at`.
  size_t EndAt(size_t at) const {
    const char c = text_[at];
    if (c == '\n') return StartsBlock(text_, at + 1) || IsHeading(at) ? at + 1 : at;
    const size_t wide = WideMark(text_, at);
    if (wide == 0 && !IsMark(c)) return at;
    // A run of marks is judged once, at its first.
    if (wide == 0 && at > start_ && IsMark(text_[at - 1])) return at;
    size_t end = at + (wide == 0 ? 1 : wide);
    size_t length = 0;
    while (end < text_.size() && IsMark(text_[end])) ++end;
    while (end < text_.size() && IsCloser(text_, end, length)) end += length;
    if (wide > 0 || end >= text_.size()) return end;
    if (!IsSpace(text_[end])) return at;
    return c == '.' && IsAbbreviation(text_, start_, at) ? at : end;
  }

  // The line that ends at `at` is a Markdown heading.
  bool IsHeading(size_t at) const {
    size_t line = at;
    while (line > start_ && text_[line - 1] != '\n') --line;
    return line < at && text_[line] == '#';
  }

  void Close(size_t end) {
    size_t begin = start_;
    start_ = end;
    while (begin < end && IsSpace(text_[begin])) ++begin;
    while (end > begin && IsSpace(text_[end - 1])) --end;
    while (end - begin > kMaxSentenceBytes) {
      size_t cut = begin + kMaxSentenceBytes;
      while (cut > begin + kMaxSentenceBytes / 2 && !IsSpace(text_[cut])) --cut;
      if (!IsSpace(text_[cut])) {
        cut = begin + kMaxSentenceBytes;
        while (!IsUtf8Boundary(text_, cut)) --cut;
      }
      size_t trimmed = cut;
      while (trimmed > begin && IsSpace(text_[trimmed - 1])) --trimmed;
      if (trimmed > begin) ranges_.push_back({begin, trimmed});
      begin = cut;
      while (begin < end && IsSpace(text_[begin])) ++begin;
    }
    if (begin < end) ranges_.push_back({begin, end});
  }

  const std::string_view text_;
  size_t start_ = 0;
  std::vector<ByteRange> ranges_;
};

}  // namespace

std::vector<ByteRange> SplitSentences(std::string_view text) { return Splitter(text).Split(); }

}  // namespace lectern
