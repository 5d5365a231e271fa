#include "server/tokenizer/word_piece/bert_text.h"

#include "base/utf8.h"
#include "server/tokenizer/text/unicode.h"

namespace lectern {
namespace {

// The blocks that BERT treats as Chinese: no kana, no hangul.
bool IsChinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

bool IsWordPunctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  }
  return IsPunctuation(c);
}

bool IsLayout(char32_t c) { return c == '\t' || c == '\n' || c == '\r'; }

// One character of the original during normalisation; it may vanish or become several.
void AppendNormal(char32_t c, const BertRules& rules, uint32_t begin, uint32_t end,
                  AlignedText& out) {
  if (rules.clean_text) {
    if (c == 0 || c == 0xFFFD || (!IsLayout(c) && IsControl(c))) return;
    if (IsSpace(c)) c = ' ';
  }
  const bool alone = rules.handle_chinese_chars && IsChinese(c);
  if (alone) out.Append(" ", begin, end);
  // Marks are not put into canonical order: those that have one are dropped, except for a few that
  // combine with musical notes.
  for (const char32_t part : rules.strip_accents ? Decompose(c) : std::u32string(1, c)) {
    if (rules.strip_accents && IsNonspacingMark(part)) continue;
    if (rules.lowercase) {
      for (const char32_t lower : Lower(part)) out.Append(lower, begin, end);
    } else {
      out.Append(part, begin, end);
    }
  }
  if (alone) out.Append(" ", begin, end);
}

}  // namespace

AlignedText NormalizeBert(const AlignedText& text, const BertRules& rules) {
  const std::string_view bytes = text.text();
  AlignedText out;
  out.Reserve(bytes.size());
  for (size_t at = 0; at < bytes.size(); at += Utf8CharLength(bytes.substr(at))) {
    AppendNormal(Utf8CodePoint(bytes.substr(at)), rules, text.begin(at), text.end(at), out);
  }
  return out;
}

std::vector<WordRange> BertWords(std::string_view text) {
  std::vector<WordRange> words;
  size_t begin = 0;
  size_t at = 0;
  const auto close = [&] {
    if (at > begin) words.push_back({begin, at});
  };
  while (at < text.size()) {
    const char32_t c = Utf8CodePoint(text.substr(at));
    const size_t length = Utf8CharLength(text.substr(at));
    if (IsSpace(c) || IsWordPunctuation(c)) {
      close();
      if (!IsSpace(c)) words.push_back({at, at + length});
      begin = at + length;
    }
    at += length;
  }
  close();
  return words;
}

}  // namespace lectern
