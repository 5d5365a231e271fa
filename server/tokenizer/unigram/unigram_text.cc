#include "server/tokenizer/unigram/unigram_text.h"

#include <utility>

#include "base/utf8.h"
#include "server/tokenizer/text/unicode.h"

namespace lectern {
namespace {

// The replacement of the text at one position.
struct Chunk {
  size_t length;  // of the text
  std::string_view replacement;
};

Chunk NextChunk(std::string_view text, const Charsmap& charsmap, const PieceTrie& user_defined) {
  if (const size_t length = user_defined.Longest(text).first; length > 0) {
    return {length, text.substr(0, length)};
  }
  if (const Charsmap::Match match = charsmap.LongestPrefix(text); match.length > 0) {
    return {match.length, match.replacement};
  }
  const size_t length = Utf8CharLength(text);
  return {length, text.substr(0, length)};
}

AlignedText ApplyStep(const AlignedText& text, const MetaspaceRules::Step& step,
                      const Charsmap& charsmap) {
  switch (step.kind) {
    case MetaspaceRules::Step::kCharsmap:
      return charsmap.Apply(text);
    case MetaspaceRules::Step::kLowercase:
      return Lowercase(text);
    case MetaspaceRules::Step::kStrip:
      return StripSpaces(text, step.left, step.right);
    case MetaspaceRules::Step::kReplace:
      return ReplaceText(text, step.pattern, step.by);
    case MetaspaceRules::Step::kReplaceBlanks:
      return ReplaceBlanks(text, step.by);
  }
  return text;
}

std::vector<AlignedText> SplitAtSpaces(const AlignedText& text) {
  const std::string_view bytes = text.text();
  std::vector<AlignedText> words;
  size_t begin = 0;
  for (size_t at = 0; at <= bytes.size();) {
    const bool over = at == bytes.size();
    if (over || IsSpace(Utf8CodePoint(bytes.substr(at)))) {
      if (at > begin) words.push_back(text.Substring(begin, at - begin));
      if (over) break;
      at += Utf8CharLength(bytes.substr(at));
      begin = at;
    } else {
      at += Utf8CharLength(bytes.substr(at));
    }
  }
  return words;
}

}  // namespace

AlignedText NormalizeForPieces(const AlignedText& text, const UnigramConfig& rules,
                               const Charsmap& charsmap, const PieceTrie& user_defined) {
  const std::string_view bytes = text.text();
  const std::string_view space = rules.escape_whitespaces ? kMetaspace : std::string_view(" ");
  AlignedText out;
  size_t at = 0;
  while (rules.remove_extra_whitespaces && at < bytes.size()) {
    const Chunk chunk = NextChunk(bytes.substr(at), charsmap, user_defined);
    if (chunk.replacement != " ") break;
    at += chunk.length;
  }
  if (at == bytes.size()) return out;
  out.Reserve(bytes.size() + bytes.size() / 2);
  if (rules.add_dummy_prefix) out.Append(space, text.begin(at), text.begin(at));
  bool after_space = rules.remove_extra_whitespaces;
  while (at < bytes.size()) {
    Chunk chunk = NextChunk(bytes.substr(at), charsmap, user_defined);
    std::string_view rest = chunk.replacement;
    while (after_space && !rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    if (!rest.empty()) after_space = rules.remove_extra_whitespaces && rest.back() == ' ';
    while (!rest.empty()) {
      const size_t blank = std::min(rest.find(' '), rest.size());
      if (blank > 0) out.AppendFor(rest.substr(0, blank), text, at, chunk.length);
      rest.remove_prefix(blank);
      if (rest.empty()) break;
      out.AppendFor(space, text, at, chunk.length);
      rest.remove_prefix(1);
    }
    at += chunk.length;
  }
  while (rules.remove_extra_whitespaces && std::string_view(out.text()).ends_with(space)) {
    out.Truncate(out.size() - space.size());
  }
  return out;
}

std::vector<AlignedText> MetaspaceWords(AlignedText text, const MetaspaceRules& rules,
                                        const Charsmap& charsmap) {
  for (const MetaspaceRules::Step& step : rules.steps) text = ApplyStep(text, step, charsmap);
  std::vector<AlignedText> parts;
  if (rules.split_at_spaces) {
    parts = SplitAtSpaces(text);
  } else if (!text.empty()) {
    parts.push_back(std::move(text));
  }
  std::vector<AlignedText> words;
  for (const AlignedText& part : parts) {
    AlignedText word;
    word.Reserve(part.size() + part.size() / 2);
    const bool wants_prefix =
        rules.prefix == MetaspaceRules::Prefix::kAlways ||
        (rules.prefix == MetaspaceRules::Prefix::kFirst && part.begin(0) == 0);
    const std::string_view bytes = part.text();
    if (wants_prefix && bytes.front() != ' ' && !bytes.starts_with(kMetaspace)) {
      word.Append(kMetaspace, part.begin(0), part.begin(0));
    }
    size_t at = 0;
    while (at < bytes.size()) {
      const size_t length = bytes[at] == ' ' ? 1 : Utf8CharLength(bytes.substr(at));
      const std::string_view c = bytes[at] == ' ' ? kMetaspace : bytes.substr(at, length);
      if (rules.split_at_prefix && c == kMetaspace && !word.empty()) {
        words.push_back(std::exchange(word, AlignedText()));
      }
      word.AppendFor(c, part, at, length);
      at += length;
    }
    words.push_back(std::move(word));
  }
  return words;
}

}  // namespace lectern
