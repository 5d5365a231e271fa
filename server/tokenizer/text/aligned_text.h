// A text on its way through normalisation, each byte with the range of the original it stands for.
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
  // `original` made well-formed: each maximal ill-formed part becomes U+FFFD. `base` is where it
  // begins in the text that ranges are of.
  explicit AlignedText(std::string_view original, size_t base = 0);

  const std::string& text() const { return text_; }
  size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }
  uint32_t begin(size_t at) const { return begin_[at]; }
  uint32_t end(size_t at) const { return end_[at]; }

  void Reserve(size_t bytes);
  // Appends text that stands for the range [begin, end) as a whole.
  void Append(std::string_view text, uint32_t begin, uint32_t end);
  void Append(char32_t c, uint32_t begin, uint32_t end);
  // Appends `text`, which stands for the bytes [at, at + length) of `from`; length > 0.
  void AppendFor(std::string_view text, const AlignedText& from, size_t at, size_t length);
  void Truncate(size_t size);
  // The bytes [at, at + length) with their ranges.
  AlignedText Substring(size_t at, size_t length) const;

 private:
  std::string text_;
  std::vector<uint32_t> begin_;
  std::vector<uint32_t> end_;
};

// What the normalizers of tokenizer.json do.
AlignedText Lowercase(const AlignedText& text);
AlignedText StripSpaces(const AlignedText& text, bool left, bool right);
// Each `pattern`, from left to right, becomes `by`.
AlignedText ReplaceText(const AlignedText& text, std::string_view pattern, std::string_view by);
// Each run of two or more blanks becomes `by`.
AlignedText ReplaceBlanks(const AlignedText& text, std::string_view by);

}  // namespace lectern
