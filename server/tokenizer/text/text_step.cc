#include "server/tokenizer/text/text_step.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "base/utf8.h"
#include "server/tokenizer/text/unicode.h"

namespace lectern {
namespace {

using Kind = TextStep::Kind;

// True if normalisation never joins the character with what comes before it: it is not a mark, and
// not a vowel or final consonant of Hangul. (All second characters of canonical compositions are.)
bool BeginsCluster(char32_t c) {
  if (c < 0x300) return true;
  if (c >= 0x1160 && c <= 0x11FF) return false;
  return !IsMark(c);
}

utf8proc_option_t OptionsOf(Kind kind) {
  int options = UTF8PROC_STABLE;
  options |= kind == Kind::kNfc || kind == Kind::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (kind == Kind::kNfkc || kind == Kind::kNfkd) options |= UTF8PROC_COMPAT;
  return static_cast<utf8proc_option_t>(options);
}

std::string NormalForm(std::string_view text, utf8proc_option_t options) {
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &raw, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(raw, &std::free);
  if (length < 0) return std::string(text);
  return std::string(reinterpret_cast<const char*>(raw), static_cast<size_t>(length));
}

void AppendBytes(AlignedText& out, const AlignedText& from, size_t at, size_t length) {
  for (size_t i = at; i < at + length; ++i) {
    out.AppendFor(std::string_view(from.text()).substr(i, 1), from, i, 1);
  }
}

// Normalises cluster by cluster: a base character and the marks that follow it. A cluster that
// changes is one range of the original.
AlignedText Normalize(const AlignedText& text, Kind kind) {
  const utf8proc_option_t options = OptionsOf(kind);
  const std::string_view bytes = text.text();
  AlignedText out;
  out.Reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    size_t end = at + Utf8CharLength(bytes.substr(at));
    const bool ascii = end - at == 1;
    while (end < bytes.size() && !BeginsCluster(Utf8CodePoint(bytes.substr(end)))) {
      end += Utf8CharLength(bytes.substr(end));
    }
    const std::string_view cluster = bytes.substr(at, end - at);
    if (ascii && cluster.size() == 1) {
      out.AppendFor(cluster, text, at, 1);
    } else if (const std::string normal = NormalForm(cluster, options); normal == cluster) {
      AppendBytes(out, text, at, cluster.size());
    } else {
      out.AppendFor(normal, text, at, cluster.size());
    }
    at = end;
  }
  return out;
}

AlignedText Prepend(const AlignedText& text, std::string_view prefix) {
  AlignedText out;
  out.Reserve(prefix.size() + text.size());
  out.Append(prefix, text.begin(0), text.begin(0));
  AppendBytes(out, text, 0, text.size());
  return out;
}

}  // namespace

AlignedText ApplySteps(AlignedText text, const std::vector<TextStep>& steps) {
  for (const TextStep& step : steps) {
    if (text.empty()) return text;
    switch (step.kind) {
      case Kind::kNfc:
      case Kind::kNfd:
      case Kind::kNfkc:
      case Kind::kNfkd:
        text = Normalize(text, step.kind);
        break;
      case Kind::kLowercase:
        text = Lowercase(text);
        break;
      case Kind::kStrip:
        text = StripSpaces(text, step.left, step.right);
        break;
      case Kind::kReplace:
        text = ReplaceText(text, step.text, step.by);
        break;
      case Kind::kPrepend:
        text = Prepend(text, step.text);
        break;
      case Kind::kPrependToInput:
        if (text.begin(0) != 0) break;
        [[fallthrough]];
      case Kind::kPrependUnless:
        if (!text.text().starts_with(step.text)) text = Prepend(text, step.text);
        break;
    }
  }
  return text;
}

}  // namespace lectern
