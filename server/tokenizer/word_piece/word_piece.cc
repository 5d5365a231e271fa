#include "server/tokenizer/word_piece/word_piece.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/text/piece_trie.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

// The text of one token that follows others, as Hugging Face's decoder writes it: a replacement
// never reaches across tokens.
std::string DecodeToken(std::string_view token, const std::string& prefix, bool first,
                        bool cleanup) {
  std::string text;
  if (!first && token.starts_with(prefix)) {
    text = token.substr(prefix.size());
  } else {
    text = first ? std::string(token) : absl::StrCat(" ", std::string(token));
  }
  if (!cleanup) return text;
  // The replacements run one after the other, as they do there.
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& rule : kRules) absl::StrReplaceAll({rule}, &text);
  return text;
}

class WordPiece : public Tokenizer {
 public:
  explicit WordPiece(WordPieceConfig config) : config_(std::move(config)) {}

  absl::Status Init() {
    const size_t n = config_.tokens.size();
    if (n == 0 || n > kMaxPieces) {
      return Bad(absl::StrCat(n, " tokens; 1 to ", kMaxPieces, " are allowed"));
    }
    if (config_.prefix.empty() || config_.prefix.size() > kMaxPieceBytes) {
      return Bad("the prefix of pieces that continue a word is empty or too long");
    }
    if (config_.max_word_chars == 0 || config_.max_word_chars > kMaxWordChars) {
      return Bad(absl::StrCat(config_.max_word_chars, " characters a word; 1 to ", kMaxWordChars,
                              " are allowed"));
    }
    LECTERN_RETURN_IF_ERROR(CheckTokens());
    return ReadIds();
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(config_.tokens.size()); }
  int32_t eos_id() const override { return config_.eos_id; }
  int32_t FindToken(std::string_view text) const override {
    const auto found = std::find(config_.tokens.begin(), config_.tokens.end(), text);
    return found == config_.tokens.end() || text.empty()
               ? -1
               : static_cast<int32_t>(found - config_.tokens.begin());
  }
  // A word of any length may be one unknown token.
  size_t longest_token_bytes() const override { return 0; }
  bool IsSpecial(int32_t id) const override { return ValidId(id) && special_[id]; }

  Encoding Encode(std::string_view text, bool parse_special) const override {
    Encoding out;
    const AddedTokens none;
    (parse_special ? specials_ : none).Cut(text, [&](size_t begin, size_t end, int32_t id) {
      if (id >= 0) {
        Emit(out, id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end));
        return;
      }
      const AlignedText normal =
          NormalizeBert(AlignedText(text.substr(begin, end - begin), begin), config_.rules);
      for (const WordRange& word : BertWords(normal.text())) EncodeWord(normal, word, out);
    });
    return out;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::string text;
    bool first = true;
    for (const int32_t id : ids) {
      if (!ValidId(id) || (skip_special && special_[id])) continue;
      text += DecodeToken(config_.tokens[id], config_.prefix, first, config_.cleanup);
      first = false;
    }
    return text;
  }

  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return std::make_unique<Stream>(this);
  }

 private:
  // Tokens are whole characters, so nothing is ever held back.
  class Stream : public StreamDecoder {
   public:
    explicit Stream(const WordPiece* owner) : owner_(*owner) {}
    std::string Append(int32_t id) override {
      if (!owner_.ValidId(id) || owner_.special_[id]) return "";
      return DecodeToken(owner_.config_.tokens[id], owner_.config_.prefix,
                         std::exchange(first_, false), owner_.config_.cleanup);
    }
    std::string Finish() override { return ""; }

   private:
    const WordPiece& owner_;
    bool first_ = true;
  };

  absl::Status Bad(const std::string& what) const {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat(config_.source, ": tokenizer: ", what),
                     {.reason = "MODEL_FILE_INVALID", .metadata = {{"file", config_.source}}});
  }
  bool ValidId(int32_t id) const {
    return id >= 0 && id < static_cast<int32_t>(config_.tokens.size());
  }

  absl::Status CheckTokens() {
    std::unordered_map<std::string_view, size_t> seen;
    for (size_t id = 0; id < config_.tokens.size(); ++id) {
      const std::string& token = config_.tokens[id];
      if (token.size() > kMaxPieceBytes) {
        return Bad(absl::StrCat("token ", id, " has ", token.size(), " bytes, at most ",
                                kMaxPieceBytes, " are allowed"));
      }
      if (!IsValidUtf8(token)) return Bad(absl::StrCat("token ", id, " is not UTF-8"));
      const auto [at, is_new] = seen.emplace(token, id);
      if (!is_new && !token.empty()) {
        return Bad(absl::StrCat("token ", id, " repeats token ", at->second));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadIds() {
    if (!ValidId(config_.unk_id)) return Bad("there is no token for unknown words");
    if (config_.eos_id >= vocab_size()) {
      return Bad(absl::StrCat("end token ", config_.eos_id, " is out of range"));
    }
    special_.assign(config_.tokens.size(), false);
    std::vector<std::pair<std::string_view, int32_t>> first, next, special;
    for (const int32_t id : config_.special_ids) {
      if (!ValidId(id) || config_.tokens[id].empty()) {
        return Bad(absl::StrCat("special token ", id, " is out of range or empty"));
      }
      special_[id] = true;
      special.emplace_back(config_.tokens[id], id);
    }
    for (int32_t id = 0; id < vocab_size(); ++id) {
      const std::string_view token = config_.tokens[id];
      if (token.empty()) continue;
      // "##" itself, and "##x" at the beginning of a word, are text like any other.
      first.emplace_back(token, id);
      if (token.starts_with(config_.prefix) && token.size() > config_.prefix.size()) {
        next.emplace_back(token.substr(config_.prefix.size()), id);
      }
    }
    first_ = PieceTrie(std::move(first));
    next_ = PieceTrie(std::move(next));
    specials_ = AddedTokens(std::move(special));
    return absl::OkStatus();
  }

  void EncodeWord(const AlignedText& text, const WordRange& range, Encoding& out) const {
    const std::string_view word =
        std::string_view(text.text()).substr(range.begin, range.end - range.begin);
    const size_t before = out.ids.size();
    bool covered = CountChars(word) <= config_.max_word_chars;
    for (size_t at = 0; covered && at < word.size();) {
      const auto [length, id] = (at == 0 ? first_ : next_).Longest(word.substr(at));
      covered = length > 0;
      if (!covered) break;
      Emit(out, id, text.begin(range.begin + at), text.end(range.begin + at + length - 1));
      at += length;
    }
    if (covered) return;
    out.ids.resize(before);
    out.begin.resize(before);
    out.end.resize(before);
    Emit(out, config_.unk_id, text.begin(range.begin), text.end(range.end - 1));
  }

  static size_t CountChars(std::string_view word) {
    return std::count_if(word.begin(), word.end(), [](char c) { return (c & 0xC0) != 0x80; });
  }

  static void Emit(Encoding& out, int32_t id, uint32_t begin, uint32_t end) {
    out.ids.push_back(id);
    out.begin.push_back(begin);
    out.end.push_back(end);
  }

  WordPieceConfig config_;
  std::vector<bool> special_;
  PieceTrie first_, next_;  // of pieces that begin words, and that continue them
  AddedTokens specials_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewWordPiece(WordPieceConfig config) {
  auto tokenizer = std::make_unique<WordPiece>(std::move(config));
  LECTERN_RETURN_IF_ERROR(tokenizer->Init());
  return tokenizer;
}

}  // namespace lectern
