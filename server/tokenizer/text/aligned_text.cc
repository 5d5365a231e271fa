#include "server/tokenizer/text/aligned_text.h"

#include "base/utf8.h"
#include "server/tokenizer/text/unicode.h"

namespace lectern {

AlignedText::AlignedText(std::string_view original, size_t base) {
  Reserve(original.size());
  for (size_t at = 0; at < original.size();) {
    const std::string_view rest = original.substr(at);
    const size_t good = Utf8CharLength(rest);
    const size_t length = good > 0 ? good : Utf8IllFormedLength(rest);
    const uint32_t begin = static_cast<uint32_t>(base + at);
    Append(good > 0 ? rest.substr(0, length) : "\xef\xbf\xbd", begin,
           begin + static_cast<uint32_t>(length));
    at += length;
  }
}

AlignedText AlignedText::OfBytes(std::string_view original) {
  AlignedText text;
  text.Reserve(original.size());
  for (size_t at = 0; at < original.size();) {
    const std::string_view rest = original.substr(at);
    const size_t good = Utf8ValidPrefix(rest);
    text.text_ += rest.substr(0, good);
    for (const size_t end = at + good; at < end; ++at) {
      text.begin_.push_back(static_cast<uint32_t>(at));
      text.end_.push_back(static_cast<uint32_t>(at + 1));
    }
    if (good == rest.size()) break;
    const auto length = static_cast<uint32_t>(Utf8IllFormedLength(original.substr(at)));
    const auto begin = static_cast<uint32_t>(at);
    text.Append("\xef\xbf\xbd", begin, begin + length);
    at += length;
  }
  return text;
}

void AlignedText::Reserve(size_t bytes) {
  text_.reserve(bytes);
  begin_.reserve(bytes);
  end_.reserve(bytes);
}

void AlignedText::Append(std::string_view text, uint32_t begin, uint32_t end) {
  text_ += text;
  begin_.insert(begin_.end(), text.size(), begin);
  end_.insert(end_.end(), text.size(), end);
}

void AlignedText::Append(char32_t c, uint32_t begin, uint32_t end) {
  std::string text;
  AppendUtf8(c, text);
  Append(text, begin, end);
}

void AlignedText::AppendFor(std::string_view text, const AlignedText& from, size_t at,
                            size_t length) {
  Append(text, from.begin(at), from.end(at + length - 1));
}

void AlignedText::Truncate(size_t size) {
  text_.resize(size);
  begin_.resize(size);
  end_.resize(size);
}

AlignedText AlignedText::Substring(size_t at, size_t length) const {
  AlignedText out;
  out.text_ = text_.substr(at, length);
  out.begin_.assign(begin_.begin() + at, begin_.begin() + at + length);
  out.end_.assign(end_.begin() + at, end_.begin() + at + length);
  return out;
}

AlignedText Lowercase(const AlignedText& text) {
  AlignedText out;
  out.Reserve(text.size());
  const std::string_view bytes = text.text();
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = Utf8CharLength(bytes.substr(at));
    for (const char32_t c : Lower(Utf8CodePoint(bytes.substr(at)))) {
      out.Append(c, text.begin(at), text.end(at));
    }
    at += length;
  }
  return out;
}

AlignedText StripSpaces(const AlignedText& text, bool left, bool right) {
  const std::string_view bytes = text.text();
  size_t begin = 0, end = bytes.size();
  while (left && begin < end && IsSpace(Utf8CodePoint(bytes.substr(begin)))) {
    begin += Utf8CharLength(bytes.substr(begin));
  }
  while (right && begin < end) {
    size_t last = end - 1;
    while (!IsUtf8Boundary(bytes, last)) --last;
    if (!IsSpace(Utf8CodePoint(bytes.substr(last)))) break;
    end = last;
  }
  return text.Substring(begin, end - begin);
}

AlignedText ReplaceText(const AlignedText& text, std::string_view pattern, std::string_view by) {
  const std::string_view bytes = text.text();
  AlignedText out;
  size_t at = 0;
  while (!pattern.empty()) {
    const size_t found = bytes.find(pattern, at);
    if (found == std::string_view::npos) break;
    for (; at < found; ++at) out.AppendFor(bytes.substr(at, 1), text, at, 1);
    out.AppendFor(by, text, at, pattern.size());
    at += pattern.size();
  }
  for (; at < bytes.size(); ++at) out.AppendFor(bytes.substr(at, 1), text, at, 1);
  return out;
}

AlignedText ReplaceBlanks(const AlignedText& text, std::string_view by) {
  const std::string_view bytes = text.text();
  AlignedText out;
  out.Reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    size_t end = at;
    while (end < bytes.size() && bytes[end] == ' ') ++end;
    if (end - at >= 2) {
      out.AppendFor(by, text, at, end - at);
      at = end;
    } else {
      out.AppendFor(bytes.substr(at, 1), text, at, 1);
      ++at;
    }
  }
  return out;
}

}  // namespace lectern
