#include "server/tokenizer/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace lectern {
namespace {

constexpr char kSpaces[] = R"(\x{9}-\x{d}\x{85}\p{Z})";

// Writes \s and \S out as Unicode's White_Space. \S inside a class stays: its complement cannot be
// written there.
std::string WithUnicodeSpaces(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        absl::StrAppend(&out, in_class ? "" : "[", kSpaces, in_class ? "" : "]");
      } else if (escaped == 'S' && !in_class) {
        absl::StrAppend(&out, "[^", kSpaces, "]");
      } else {
        out += {'\\', escaped};
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      out += c;
      // A bracket that comes first in a class is an ordinary character.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
        out += "\\]";
        ++i;
      }
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<const Regex>> Regex::Create(std::string_view pattern) {
  const std::string text = WithUnicodeSpaces(pattern);
  auto code = std::make_unique<Code>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code->code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(absl::StrCat(
        "pattern does not compile: ", reinterpret_cast<const char*>(message), " at byte ", offset));
  }
  // Without JIT (some hardened kernels forbid it) matching is slower but gives the same result.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  return std::unique_ptr<const Regex>(new Regex(std::move(code)));
}

Regex::Searcher::Searcher(const Regex& regex)
    : code_(*regex.code_), data_(pcre2_match_data_create_from_pattern(code_.code, nullptr)) {}

Regex::Searcher::~Searcher() { pcre2_match_data_free(static_cast<pcre2_match_data*>(data_)); }

bool Regex::Searcher::Next(std::string_view text, size_t at, size_t& begin, size_t& end) {
  auto* const data = static_cast<pcre2_match_data*>(data_);
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  int rc = pcre2_match(code_.code, subject, text.size(), at, options, data, nullptr);
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
    rc = pcre2_match(code_.code, subject, text.size(), at, options | PCRE2_NO_JIT, data, nullptr);
  }
  if (rc < 0) return false;
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
  begin = range[0];
  end = range[1];
  return begin >= at && end > begin;
}

}  // namespace lectern
