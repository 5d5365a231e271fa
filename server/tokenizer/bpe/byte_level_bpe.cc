#include "server/tokenizer/bpe/byte_level_bpe.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "server/tokenizer/bpe/bpe_merges.h"
#include "server/tokenizer/bpe/byte_alphabet.h"
#include "server/tokenizer/bpe/pre_tokenize.h"
#include "server/tokenizer/text/whole_characters.h"

namespace lectern {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 22;
// The number of words whose tokens are cached while one text is encoded.
constexpr size_t kCachedWords = 1 << 16;
constexpr size_t kCachedWordBytes = 64;

absl::Status Bad(const ByteLevelBpeConfig& config, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(config.source, ": tokenizer: ", what),
                   {.reason = "MODEL_FILE_INVALID", .metadata = {{"file", config.source}}});
}

// A text made well-formed, with the origin of each of its bytes. Most texts are well-formed, and
// then nothing is copied.
class CleanText {
 public:
  explicit CleanText(std::string_view text) : original_(text) {
    if (IsValidUtf8(text)) return;
    changed_ = true;
    size_t at = 0;
    while (at < text.size()) {
      const size_t good = Utf8ValidPrefix(text.substr(at));
      Append(text.substr(at, good), at, true);
      at += good;
      if (at >= text.size()) break;
      Append("\xef\xbf\xbd", at, false);
      at += Utf8IllFormedLength(text.substr(at));
    }
    origin_.push_back(static_cast<uint32_t>(text.size()));
  }
  std::string_view text() const { return changed_ ? std::string_view(clean_) : original_; }
  uint32_t Origin(size_t offset) const {
    return changed_ ? origin_[offset] : static_cast<uint32_t>(offset);
  }

 private:
  void Append(std::string_view part, size_t at, bool advance) {
    for (size_t i = 0; i < part.size(); ++i) {
      clean_.push_back(part[i]);
      origin_.push_back(static_cast<uint32_t>(at + (advance ? i : 0)));
    }
  }

  std::string_view original_;
  bool changed_ = false;
  std::string clean_;
  std::vector<uint32_t> origin_;
};

class StreamDecoderImpl : public StreamDecoder {
 public:
  StreamDecoderImpl(const std::vector<std::string>* bytes, const std::vector<bool>* special)
      : bytes_(bytes), special_(special) {}

  std::string Append(int32_t id) override {
    if (id < 0 || id >= static_cast<int32_t>(bytes_->size()) || (*special_)[id]) return "";
    return characters_.Append((*bytes_)[id]);
  }
  std::string Finish() override { return characters_.Finish(); }

 private:
  const std::vector<std::string>* bytes_;
  const std::vector<bool>* special_;
  WholeCharacters characters_;
};

class ByteLevelBpe : public Tokenizer {
 public:
  explicit ByteLevelBpe(ByteLevelBpeConfig config) : config_(std::move(config)) {}

  absl::Status Init() {
    const size_t n = config_.tokens.size();
    if (n == 0 || n > kMaxTokens) {
      return Bad(config_, absl::StrCat(n, " tokens; 1 to ", kMaxTokens, " are allowed"));
    }
    LECTERN_RETURN_IF_ERROR(ReadSpecial());
    LECTERN_RETURN_IF_ERROR(ReadTokens());
    LECTERN_RETURN_IF_ERROR(ReadMerges());
    LECTERN_ASSIGN_OR_RETURN(cutter_, PreTokenize::Create(config_.pre_tokenizer));
    config_.merges = {};
    return absl::OkStatus();
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(bytes_.size()); }
  int32_t eos_id() const override { return config_.eos_id; }
  int32_t bos_id() const override { return config_.bos_id; }
  bool adds_bos() const override { return config_.add_bos; }
  int32_t FindToken(std::string_view text) const override {
    const auto found = ids_.find(std::string(text));
    return found == ids_.end() ? -1 : found->second;
  }

  Encoding Encode(std::string_view text, bool parse_special) const override {
    Encoding out;
    const CleanText clean(text);
    WordCache cache;
    std::string_view rest = clean.text();
    size_t base = 0;
    while (!rest.empty()) {
      const auto [at, id] = parse_special ? FindSpecial(rest) : NoSpecial();
      EncodePlain(rest.substr(0, at), base, clean, cache, out);
      if (id < 0) break;
      const size_t length = config_.tokens[id].size();
      Emit(out, id, clean.Origin(base + at), clean.Origin(base + at + length));
      rest.remove_prefix(at + length);
      base += at + length;
    }
    return out;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::string bytes;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size() || (skip_special && special_[id])) continue;
      bytes += bytes_[id];
    }
    return ReplaceInvalidUtf8(bytes);
  }

  size_t longest_token_bytes() const override { return longest_token_; }
  bool IsSpecial(int32_t id) const override { return id >= 0 && id < vocab_size() && special_[id]; }
  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return std::make_unique<StreamDecoderImpl>(&bytes_, &special_);
  }

 private:
  using WordCache = std::unordered_map<std::string_view, std::vector<BpeSymbol>>;

  bool ValidId(int32_t id) const {
    return id >= 0 && id < static_cast<int32_t>(config_.tokens.size());
  }

  absl::Status ReadSpecial() {
    special_.assign(config_.tokens.size(), false);
    for (const int32_t id : config_.special_ids) {
      if (!ValidId(id)) return Bad(config_, absl::StrCat("special token ", id, " is out of range"));
      if (config_.tokens[id].empty()) {
        return Bad(config_, absl::StrCat("special token ", id, " is empty"));
      }
      special_[id] = true;
    }
    for (const auto& [name, id] : {std::pair{"end", config_.eos_id}, {"begin", config_.bos_id}}) {
      if (id >= 0 && !ValidId(id)) {
        return Bad(config_, absl::StrCat(name, " token ", id, " is out of range"));
      }
    }
    if (config_.add_bos && config_.bos_id < 0) {
      return Bad(config_, "a sequence is to begin with a begin token, but there is none");
    }
    // Longest first, so that a token never hides a longer one that starts with it.
    specials_ = config_.special_ids;
    std::sort(specials_.begin(), specials_.end(), [&](int32_t a, int32_t b) {
      return config_.tokens[a].size() > config_.tokens[b].size();
    });
    return absl::OkStatus();
  }

  absl::Status ReadTokens() {
    byte_ids_.fill(-1);
    bytes_.resize(config_.tokens.size());
    for (size_t id = 0; id < config_.tokens.size(); ++id) {
      const std::string& token = config_.tokens[id];
      if (!ids_.emplace(token, static_cast<int32_t>(id)).second) {
        return Bad(config_, absl::StrCat("token ", id, " repeats an earlier one"));
      }
      const std::optional<std::string> bytes = special_[id] ? std::nullopt : BytesOfToken(token);
      bytes_[id] = bytes.value_or(token);
      if (bytes && bytes->size() == 1) {
        byte_ids_[static_cast<unsigned char>((*bytes)[0])] = static_cast<int32_t>(id);
      }
      if (!special_[id]) longest_token_ = std::max(longest_token_, bytes_[id].size());
    }
    // Bytes that occur in no well-formed text need no token.
    for (int byte = 0; byte <= 0xf4; ++byte) {
      if (byte != 0xc0 && byte != 0xc1 && byte_ids_[byte] < 0) longest_token_ = 0;
    }
    return absl::OkStatus();
  }

  absl::Status ReadMerges() {
    for (size_t rank = 0; rank < config_.merges.size(); ++rank) {
      const std::string& merge = config_.merges[rank];
      const size_t space = merge.find(' ');
      const auto unknown = [&](const std::string& why) {
        return Bad(config_, absl::StrCat("merge ", rank, ": ", why));
      };
      if (space == std::string::npos || space == 0 || space + 1 == merge.size()) {
        return unknown("not two tokens separated by a space");
      }
      const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
      const auto l = ids_.find(left), r = ids_.find(right), both = ids_.find(left + right);
      if (l == ids_.end() || r == ids_.end() || both == ids_.end()) {
        return unknown("names a token that the vocabulary does not have");
      }
      if (!merges_.Add(l->second, r->second, both->second, static_cast<int32_t>(rank))) {
        return unknown("repeats an earlier one");
      }
    }
    return absl::OkStatus();
  }

  static std::pair<size_t, int32_t> NoSpecial() { return {std::string_view::npos, -1}; }

  // The first special token written out in `text`, or npos.
  std::pair<size_t, int32_t> FindSpecial(std::string_view text) const {
    std::pair<size_t, int32_t> best = NoSpecial();
    for (const int32_t id : specials_) {
      const size_t at = text.substr(0, best.first).find(config_.tokens[id]);
      // A match that begins earlier wins; of two at the same place the longer, which comes first.
      if (at < best.first) best = {at, id};
    }
    return best;
  }

  void Emit(Encoding& out, int32_t id, uint32_t begin, uint32_t end) const {
    out.ids.push_back(id);
    out.begin.push_back(begin);
    out.end.push_back(end);
  }

  std::vector<BpeSymbol> EncodeWord(std::string_view word) const {
    std::vector<BpeSymbol> symbols(word.size());
    for (size_t i = 0; i < word.size(); ++i) {
      symbols[i] = {byte_ids_[static_cast<unsigned char>(word[i])], static_cast<uint32_t>(i),
                    static_cast<uint32_t>(i + 1)};
    }
    merges_.Apply(symbols);
    return symbols;
  }

  void EncodePlain(std::string_view text, size_t base, const CleanText& clean, WordCache& cache,
                   Encoding& out) const {
    cutter_->Cut(text, [&](size_t begin, size_t end) {
      const std::string_view word = text.substr(begin, end - begin);
      const auto emit = [&](const std::vector<BpeSymbol>& symbols) {
        for (const BpeSymbol& s : symbols) {
          if (s.id < 0) continue;
          Emit(out, s.id, clean.Origin(base + begin + s.begin), clean.Origin(base + begin + s.end));
        }
      };
      if (word.size() > kCachedWordBytes) {
        emit(EncodeWord(word));
        return;
      }
      const auto found = cache.find(word);
      if (found != cache.end()) {
        emit(found->second);
        return;
      }
      if (cache.size() >= kCachedWords) cache.clear();
      emit(cache.emplace(word, EncodeWord(word)).first->second);
    });
  }

  ByteLevelBpeConfig config_;
  std::vector<std::string> bytes_;  // of each token
  std::vector<bool> special_;
  std::vector<int32_t> specials_;
  std::array<int32_t, 256> byte_ids_;
  size_t longest_token_ = 0;
  std::unordered_map<std::string, int32_t> ids_;
  BpeMerges merges_;
  std::unique_ptr<PreTokenize> cutter_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewByteLevelBpe(ByteLevelBpeConfig config) {
  auto tokenizer = std::make_unique<ByteLevelBpe>(std::move(config));
  LECTERN_RETURN_IF_ERROR(tokenizer->Init());
  return tokenizer;
}

}  // namespace lectern
