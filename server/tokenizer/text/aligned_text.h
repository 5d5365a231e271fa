// A text during normalisation; each byte knows the range of the original that it represents.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lectern {

// A value. Ranges ascend, and lie on boundaries of characters where the original is well-formed.
class AlignedText {
 public:
  AlignedText() = default;
  // `original` made well-formed: each maximal ill-formed part becomes U+FFFD. `base` is its
  // offset in the text to which ranges refer.
  explicit AlignedText(std::string_view original, size_t base = 0);
  // Likewise, but each byte of a well-formed part is its own range.
  static AlignedText OfBytes(std::string_view original);

  const std::string& text() const { return text_; }
  size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }
  uint32_t begin(size_t at) const { return begin_[at]; }
  uint32_t end(size_t at) const { return end_[at]; }

  void Reserve(size_t bytes);
  // Appends text that represents the range [begin, end) as a whole.
  void Append(std::string_view text, uint32_t begin, uint32_t end);
  void Append(char32_t c, uint32_t begin, uint32_t end);
  // Appends `text`, which represents the bytes [at, at + length) of `from`; length > 0.
  void AppendFor(std::string_view text, const AlignedText& from, size_t at, size_t length);
  void Truncate(size_t size);
  // The bytes [at, at + length) with their ranges.
  AlignedText Substring(size_t at, size_t length) const;

 private:
  std::string text_;
  std::vector<uint32_t> begin_;
  std::vector<uint32_t> end_;
};

// The normalizers of tokenizer.json.
AlignedText Lowercase(const AlignedText& text);
AlignedText StripSpaces(const AlignedText& text, bool left, bool right);
// Replaces each `pattern`, from left to right, with `by`.
AlignedText ReplaceText(const AlignedText& text, std::string_view pattern, std::string_view by);
// Replaces each run of two or more blanks with `by`.
AlignedText ReplaceBlanks(const AlignedText& text, std::string_view by);

}  // namespace lectern
