#include "server/tokenizer/word_piece.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/utf8.h"
#include "server/tokenizer/normalized_text.h"

namespace lectern {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 22;
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kLongestWord = 100;  // characters; a longer one is unknown
constexpr std::string_view kInside = "##";

bool IsChinese(int32_t c) {
  struct Range {
    int32_t first, last;
  };
  constexpr Range kRanges[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                               {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF},
                               {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const Range& range) { return c >= range.first && c <= range.last; });
}

bool IsSpace(int32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return true;
  const auto category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool IsControl(int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
      return true;
    default:
      return false;
  }
}

bool IsPunctuation(int32_t c) {
  const bool ascii_symbol = (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
                            (c >= 123 && c <= 126);
  const auto category = utf8proc_category(c);
  return ascii_symbol || (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO);
}

// The character at text[0], and its length; U+FFFD for an ill-formed part.
std::pair<int32_t, size_t> CharacterOf(std::string_view text) {
  if (Utf8CharLength(text) == 0) return {0xFFFD, 1};
  utf8proc_int32_t c = 0;
  const utf8proc_ssize_t length =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &c);
  return {c, static_cast<size_t>(length)};
}

class WordPiece;

// Words with spaces between them; punctuation and pieces inside words without.
class WordPieceDecoder : public StreamDecoder {
 public:
  explicit WordPieceDecoder(const WordPiece& tokenizer) : tokenizer_(tokenizer) {}
  std::string Append(int32_t id) override;
  std::string Finish() override { return {}; }

 private:
  const WordPiece& tokenizer_;
  bool at_start_ = true;
};

class WordPiece : public Tokenizer {
 public:
  explicit WordPiece(WordPieceConfig config) : config_(std::move(config)) {}

  absl::Status Prepare() {
    const size_t count = config_.tokens.size();
    if (count == 0 || count > kMaxTokens) {
      return Bad(absl::StrCat(count, " tokens; 1 to ", kMaxTokens, " are allowed"));
    }
    for (size_t id = 0; id < count; ++id) {
      const std::string& token = config_.tokens[id];
      if (token.size() > kMaxTokenBytes) {
        return Bad(absl::StrCat("token ", id, " has ", token.size(), " bytes; at most ",
                                kMaxTokenBytes, " are allowed"));
      }
      if (!ids_.emplace(token, static_cast<int32_t>(id)).second) {
        return Bad(absl::StrCat("tokens ", ids_.at(token), " and ", id, " are the same"));
      }
    }
    unknown_id_ = IdOf(config_.unknown);
    if (unknown_id_ < 0) return Bad(absl::StrCat("has no token ", config_.unknown));
    for (const std::string& token : config_.special) {
      if (const int32_t id = IdOf(token); id >= 0) special_.push_back(id);
    }
    return absl::OkStatus();
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(config_.tokens.size()); }
  int32_t eos_id() const override { return -1; }
  // Some characters have no token.
  size_t longest_token_bytes() const override { return 0; }
  bool IsSpecial(int32_t id) const override {
    return std::find(special_.begin(), special_.end(), id) != special_.end();
  }

  Encoding Encode(std::string_view text, bool parse_special) const override {
    Encoding encoding;
    size_t begin = 0;
    while (parse_special && begin < text.size()) {
      size_t at = std::string_view::npos;
      int32_t found = -1;
      for (const int32_t id : special_) {
        const size_t here = text.find(config_.tokens[id], begin);
        if (here < at) {
          at = here;
          found = id;
        }
      }
      if (found < 0) break;
      AddText(text.substr(begin, at - begin), begin, encoding);
      begin = at + config_.tokens[found].size();
      Add(found, at, begin, encoding);
    }
    AddText(text.substr(begin), begin, encoding);
    return encoding;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    WordPieceDecoder decoder(*this);
    std::string text;
    for (const int32_t id : ids) {
      if (!IsSpecial(id)) {
        text += decoder.Append(id);
      } else if (!skip_special) {
        text += absl::StrCat(text.empty() ? "" : " ", config_.tokens[id]);
      }
    }
    return text;
  }

  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return std::make_unique<WordPieceDecoder>(*this);
  }

  // Empty for an id that is no token.
  std::string_view TokenOf(int32_t id) const {
    return id < 0 || id >= vocab_size() ? std::string_view() : config_.tokens[id];
  }

 private:
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(config_.source, ": ", what));
  }

  int32_t IdOf(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }

  static void Add(int32_t id, size_t begin, size_t end, Encoding& encoding) {
    encoding.ids.push_back(id);
    encoding.begin.push_back(static_cast<uint32_t>(begin));
    encoding.end.push_back(static_cast<uint32_t>(end));
  }

  // Without accents and in lower case, as the model wants it.
  void AppendCharacter(int32_t character, size_t begin, size_t end, NormalizedText& word) const {
    std::array<utf8proc_int32_t, 64> parts = {character};
    utf8proc_ssize_t count = 1;
    if (config_.strip_accents) {
      int boundary = 0;
      count = utf8proc_decompose_char(character, parts.data(), parts.size(), UTF8PROC_DECOMPOSE,
                                      &boundary);
      if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) return;
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      utf8proc_int32_t part = parts[static_cast<size_t>(i)];
      if (config_.strip_accents && utf8proc_category(part) == UTF8PROC_CATEGORY_MN) continue;
      if (config_.lower_case) part = utf8proc_tolower(part);
      std::array<utf8proc_uint8_t, 4> bytes = {};
      const utf8proc_ssize_t size = utf8proc_encode_char(part, bytes.data());
      word.Append({reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(size)}, begin,
                  end);
    }
  }

  void AddText(std::string_view text, size_t offset, Encoding& encoding) const {
    NormalizedText word;
    const auto finish = [&] {
      AddWord(word, offset, encoding);
      word.Truncate(0);
    };
    for (size_t at = 0; at < text.size();) {
      const auto [character, length] = CharacterOf(text.substr(at));
      const size_t begin = at;
      at += length;
      if (IsSpace(character)) {
        finish();
        continue;
      }
      if (character == 0 || character == 0xFFFD || IsControl(character)) continue;
      const bool alone =
          IsPunctuation(character) || (config_.split_chinese && IsChinese(character));
      if (alone) finish();
      AppendCharacter(character, begin, at, word);
      if (alone) finish();
    }
    finish();
  }

  void AddWord(const NormalizedText& word, size_t offset, Encoding& encoding) const {
    if (word.text.empty()) return;
    const size_t size = word.text.size();
    const size_t before = encoding.ids.size();
    const auto unknown = [&] {
      encoding.ids.resize(before);
      encoding.begin.resize(before);
      encoding.end.resize(before);
      Add(unknown_id_, offset + word.begin[0], offset + word.end[size - 1], encoding);
    };
    const auto is_character = [&](size_t i) { return IsUtf8Boundary(word.text, i); };
    size_t characters = 0;
    for (size_t i = 0; i < size; ++i) characters += is_character(i) ? 1 : 0;
    if (characters > kLongestWord) return unknown();
    for (size_t begin = 0; begin < size;) {
      int32_t id = -1;
      size_t end = size;
      for (; end > begin; --end) {
        if (!is_character(end)) continue;
        std::string piece = word.text.substr(begin, end - begin);
        if (begin > 0) piece.insert(0, kInside);
        if ((id = IdOf(piece)) >= 0) break;
      }
      if (id < 0) return unknown();
      Add(id, offset + word.begin[begin], offset + word.end[end - 1], encoding);
      begin = end;
    }
  }

  const WordPieceConfig config_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> special_;
  int32_t unknown_id_ = -1;
};

std::string WordPieceDecoder::Append(int32_t id) {
  if (tokenizer_.IsSpecial(id)) return {};
  const std::string_view token = tokenizer_.TokenOf(id);
  const bool first = std::exchange(at_start_, false);
  if (token.starts_with(kInside) && token.size() > kInside.size()) {
    return std::string(token.substr(kInside.size()));
  }
  const bool closes =
      token.size() == 1 && std::string_view(".,!?").find(token[0]) != std::string_view::npos;
  return first || closes ? std::string(token) : absl::StrCat(" ", std::string(token));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewWordPiece(WordPieceConfig config) {
  auto tokenizer = std::make_unique<WordPiece>(std::move(config));
  LECTERN_RETURN_IF_ERROR(tokenizer->Prepare());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace lectern
