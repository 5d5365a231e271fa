#include "server/tokenizer/bpe/pre_tokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "base/status_macros.h"

namespace lectern {
namespace {

// The pattern of GPT-2 (Radford et al. 2019). White space is spelled out as Unicode's White_Space:
// PCRE2's \s counts U+180E too, which Unicode removed in version 6.3.
constexpr char kWords[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{L}\p{N}\x{9}-\x{d}\x{85}\p{Z}]+)"
    R"(|[\x{9}-\x{d}\x{85}\p{Z}]+(?![^\x{9}-\x{d}\x{85}\p{Z}])|[\x{9}-\x{d}\x{85}\p{Z}]+)";
// Each numeric character (categories Nd, Nl, No) alone, and the text between them.
constexpr char kNumbers[] = R"(\p{N}|\P{N}+)";

struct MatchData {
  explicit MatchData(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)) {}
  ~MatchData() { pcre2_match_data_free(data); }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;
  pcre2_match_data* data;
};

}  // namespace

struct PreTokenize::Pattern {
  pcre2_code* code = nullptr;
  ~Pattern() { pcre2_code_free(code); }

  static absl::StatusOr<std::unique_ptr<Pattern>> Compile(const char* text) {
    auto pattern = std::make_unique<Pattern>();
    int error = 0;
    PCRE2_SIZE offset = 0;
    pattern->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text), PCRE2_ZERO_TERMINATED,
                                  PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (pattern->code == nullptr) {
      return absl::InternalError("pre-tokeniser pattern does not compile");
    }
    // Without JIT (some hardened kernels forbid it) matching is slower but gives the same result.
    pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE);
    return pattern;
  }

  // Calls `piece` for the matches in `text`; text that the pattern does not match becomes a
  // separate piece.
  void ForEach(std::string_view text, const std::function<void(size_t, size_t)>& match) const {
    const MatchData data(code);
    const PCRE2_SPTR subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    size_t at = 0;
    while (at < text.size()) {
      const int rc =
          pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.data, nullptr);
      if (rc < 0) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.data);
      if (range[1] <= at) break;
      if (range[0] > at) match(at, range[0]);
      match(range[0], range[1]);
      at = range[1];
    }
    if (at < text.size()) match(at, text.size());
  }
};

PreTokenize::PreTokenize() = default;
PreTokenize::~PreTokenize() = default;

absl::StatusOr<std::unique_ptr<PreTokenize>> PreTokenize::Create(PreTokenizer kind) {
  std::unique_ptr<PreTokenize> cutter(new PreTokenize());
  if (kind == PreTokenizer::kSmolLm) {
    LECTERN_ASSIGN_OR_RETURN(cutter->numbers_, Pattern::Compile(kNumbers));
  }
  if (kind != PreTokenizer::kNone) {
    LECTERN_ASSIGN_OR_RETURN(cutter->words_, Pattern::Compile(kWords));
  }
  return cutter;
}

void PreTokenize::Cut(std::string_view text,
                      const std::function<void(size_t, size_t)>& piece) const {
  if (numbers_ == nullptr) {
    CutWords(text, 0, piece);
    return;
  }
  // Each part is divided separately, because look-ahead must not see the number that follows.
  numbers_->ForEach(text, [&](size_t begin, size_t end) {
    CutWords(text.substr(begin, end - begin), begin, piece);
  });
}

void PreTokenize::CutWords(std::string_view text, size_t base,
                           const std::function<void(size_t, size_t)>& piece) const {
  if (text.empty()) return;
  if (words_ == nullptr) {
    piece(base, base + text.size());
    return;
  }
  words_->ForEach(text, [&](size_t begin, size_t end) { piece(base + begin, base + end); });
}

}  // namespace lectern
