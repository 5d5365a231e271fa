#include "server/tokenizer/bpe/bpe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "server/tokenizer/bpe/bpe_merges.h"
#include "server/tokenizer/bpe/byte_alphabet.h"
#include "server/tokenizer/bpe/token_edges.h"
#include "server/tokenizer/text/byte_piece.h"
#include "server/tokenizer/text/metaspace.h"
#include "server/tokenizer/text/whole_characters.h"

namespace lectern {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 22;
// The number of words whose tokens are cached while one text is encoded.
constexpr size_t kCachedWords = 1 << 16;
constexpr size_t kCachedWordBytes = 64;
// Composition joins a character with two marks at most; their bytes together are at most this
// multiple of the result's.
constexpr size_t kMostComposed = 4;

absl::Status Bad(const BpeConfig& config, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(config.source, ": tokenizer: ", what),
                   {.reason = "MODEL_FILE_INVALID", .metadata = {{"file", config.source}}});
}

class Bpe : public Tokenizer {
 public:
  explicit Bpe(BpeConfig config) : config_(std::move(config)) {}

  absl::Status Init() {
    const size_t n = config_.tokens.size();
    if (n == 0 || n > kMaxTokens) {
      return Bad(config_, absl::StrCat(n, " tokens; 1 to ", kMaxTokens, " are allowed"));
    }
    LECTERN_RETURN_IF_ERROR(ReadAdded());
    LECTERN_RETURN_IF_ERROR(ReadTokens());
    LECTERN_RETURN_IF_ERROR(config_.scores.empty() ? ReadMerges() : ReadScores());
    auto cutter = PreTokenize::Create(config_.splits);
    if (!cutter.ok()) return Bad(config_, std::string(cutter.status().message()));
    cutter_ = *std::move(cutter);
    longest_token_ = LongestToken();
    config_.merges = {};
    config_.scores = {};
    return absl::OkStatus();
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(text_.size()); }
  int32_t eos_id() const override { return config_.eos_id; }
  int32_t bos_id() const override { return config_.bos_id; }
  bool adds_bos() const override { return config_.add_bos; }
  int32_t FindToken(std::string_view text) const override {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  Encoding Encode(std::string_view text, bool parse_special) const override {
    const AddedTexts& added = parse_special ? all_added_ : plain_added_;
    Encoding out;
    CutAdded(AlignedText::OfBytes(text), added.as_written, out, [&](const AlignedText& written) {
      WithSteps(written, normalizer_, [&](const AlignedText& normal) {
        CutAdded(normal, added.normalized, out, [&](const AlignedText& between) {
          WithSteps(between, word_steps_,
                    [&](const AlignedText& words) { EncodeNormal(words, out); });
        });
      });
    });
    return out;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::string bytes;
    bool at_start = config_.strip_first_space;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size() || (skip_special && special_[id])) continue;
      bytes += TextOf(id, at_start);
    }
    return ReplaceInvalidUtf8(bytes);
  }

  size_t longest_token_bytes() const override { return longest_token_; }
  bool IsSpecial(int32_t id) const override { return id >= 0 && id < vocab_size() && special_[id]; }
  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return std::make_unique<Decoder>(*this);
  }

 private:
  class Decoder : public StreamDecoder {
   public:
    explicit Decoder(const Bpe& bpe) : bpe_(bpe), at_start_(bpe.config_.strip_first_space) {}
    std::string Append(int32_t id) override {
      if (id < 0 || id >= bpe_.vocab_size() || bpe_.special_[id]) return "";
      return characters_.Append(bpe_.TextOf(id, at_start_));
    }
    std::string Finish() override { return characters_.Finish(); }

   private:
    const Bpe& bpe_;
    bool at_start_;
    WholeCharacters characters_;
  };

  // The added tokens that a text is searched for.
  struct AddedTexts {
    AddedTokens as_written, normalized;
  };

  using WordCache = std::unordered_map<std::string_view, std::vector<BpeSymbol>>;
  bool ValidId(int32_t id) const {
    return id >= 0 && id < static_cast<int32_t>(config_.tokens.size());
  }
  // The bytes of a token. The first text of a decoding loses its first blank if `at_start` is set,
  // which is then cleared.
  std::string_view TextOf(int32_t id, bool& at_start) const {
    std::string_view text = text_[id];
    if (at_start && !text.empty()) {
      at_start = false;
      if (text.front() == ' ') text.remove_prefix(1);
    }
    return text;
  }

  absl::Status ReadAdded() {
    special_.assign(config_.tokens.size(), false);
    added_of_.assign(config_.tokens.size(), nullptr);
    of_model_.assign(config_.tokens.size(), true);
    if (config_.normalizer_steps > config_.steps.size()) {
      return Bad(config_, "more steps normalise than there are");
    }
    const auto first_of_words = config_.steps.begin() + config_.normalizer_steps;
    normalizer_.assign(config_.steps.begin(), first_of_words);
    word_steps_.assign(first_of_words, config_.steps.end());
    using Texts = std::vector<std::pair<std::string_view, int32_t>>;
    Texts all, plain, all_normalized, plain_normalized;
    std::deque<std::string> normal_texts;
    for (const AddedToken& token : config_.added) {
      if (!ValidId(token.id)) {
        return Bad(config_, absl::StrCat("added token ", token.id, " is out of range"));
      }
      if (token.text.empty()) {
        return Bad(config_, absl::StrCat("added token ", token.id, " is empty"));
      }
      if (added_of_[token.id] != nullptr) continue;  // listed twice
      added_of_[token.id] = &token;
      special_[token.id] = token.special;
      of_model_[token.id] = token.in_vocabulary;
      std::string_view text = token.text;
      if (token.normalized) {
        text = normal_texts.emplace_back(
            ApplySteps(AlignedText::OfBytes(token.text), normalizer_).text());
        if (text.empty()) continue;  // no text holds it
      }
      (token.normalized ? all_normalized : all).emplace_back(text, token.id);
      if (!token.special)
        (token.normalized ? plain_normalized : plain).emplace_back(text, token.id);
    }
    all_added_ = {AddedTokens(std::move(all)), AddedTokens(std::move(all_normalized))};
    plain_added_ = {AddedTokens(std::move(plain)), AddedTokens(std::move(plain_normalized))};
    for (const auto& [name, id] : {std::pair{"end", config_.eos_id},
                                   {"begin", config_.bos_id},
                                   {"unknown", config_.unk_id}}) {
      if (id >= 0 && !ValidId(id)) {
        return Bad(config_, absl::StrCat(name, " token ", id, " is out of range"));
      }
    }
    if (config_.add_bos && config_.bos_id < 0) {
      return Bad(config_, "a sequence is to begin with a begin token, but there is none");
    }
    return absl::OkStatus();
  }

  absl::Status ReadTokens() {
    byte_ids_.fill(-1);
    text_.resize(config_.tokens.size());
    ids_.reserve(config_.tokens.size());
    const bool bytes = config_.alphabet == BpeConfig::Alphabet::kBytes;
    for (size_t at = 0; at < config_.tokens.size(); ++at) {
      const std::string& token = config_.tokens[at];
      const auto id = static_cast<int32_t>(at);
      if (token.empty()) continue;
      if (!ids_.emplace(token, id).second) {
        if (added_of_[at] != nullptr) continue;  // found as it is written, never merged to
        return Bad(config_, absl::StrCat("token ", at, " repeats an earlier one"));
      }
      if (special_[at]) {
        text_[at] = token;
      } else if (bytes) {
        const std::optional<std::string> text =
            added_of_[at] != nullptr ? std::nullopt : BytesOfToken(token);
        text_[at] = text.value_or(token);
        const std::optional<std::string> symbol =
            of_model_[at] ? BytesOfToken(token) : std::nullopt;
        if (symbol && symbol->size() == 1) byte_ids_[static_cast<unsigned char>((*symbol)[0])] = id;
      } else if (const int byte = config_.byte_fallback ? ByteOfPiece(token) : -1; byte >= 0) {
        text_[at] = std::string(1, static_cast<char>(byte));
        byte_ids_[byte] = id;
      } else {
        text_[at] = WithBlanks(token);
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadMerges() {
    merges_.Reserve(config_.merges.size());
    std::string text;
    for (size_t rank = 0; rank < config_.merges.size(); ++rank) {
      const auto& [left, right] = config_.merges[rank];
      const auto unknown = [&](const std::string& why) {
        return Bad(config_, absl::StrCat("merge ", rank, ": ", why));
      };
      if (left.empty() || right.empty()) return unknown("one side is empty");
      text = left;
      text += right;
      const auto l = ids_.find(left), r = ids_.find(right), both = ids_.find(text);
      if (l == ids_.end() || r == ids_.end() || both == ids_.end()) {
        return unknown("names a token that the vocabulary does not have");
      }
      if (!merges_.Add(l->second, r->second, both->second, static_cast<int32_t>(rank))) {
        return unknown("repeats an earlier one");
      }
    }
    return absl::OkStatus();
  }

  // Every way to divide a token into two tokens is a merge, ranked by the token's score.
  absl::Status ReadScores() {
    if (config_.scores.size() != config_.tokens.size()) {
      return Bad(config_, absl::StrCat(config_.scores.size(), " scores for ", config_.tokens.size(),
                                       " tokens"));
    }
    std::vector<bool> merged(config_.tokens.size(), true);
    for (const int32_t id : config_.unmerged) {
      if (!ValidId(id)) return Bad(config_, absl::StrCat("token ", id, " is out of range"));
      merged[id] = false;
    }
    std::vector<double> distinct;
    for (const double score : config_.scores) {
      if (!std::isfinite(score)) return Bad(config_, "a score is not a finite number");
      distinct.push_back(-score);
    }
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (const auto& [token, id] : ids_) {
      if (!merged[id] || byte_text(id)) continue;
      const int32_t rank = static_cast<int32_t>(
          std::lower_bound(distinct.begin(), distinct.end(), -config_.scores[id]) -
          distinct.begin());
      for (size_t at = Utf8CharLength(token); at > 0 && at < token.size();) {
        const auto left = ids_.find(token.substr(0, at)), right = ids_.find(token.substr(at));
        if (left != ids_.end() && right != ids_.end() && merged[left->second] &&
            merged[right->second]) {
          merges_.Add(left->second, right->second, id, rank);
        }
        const size_t length = Utf8CharLength(std::string_view(token).substr(at));
        if (length == 0) break;
        at += length;
      }
    }
    return absl::OkStatus();
  }

  bool byte_text(int32_t id) const {
    return config_.byte_fallback && ByteOfPiece(config_.tokens[id]) >= 0;
  }

  // See Tokenizer::longest_token_bytes.
  size_t LongestToken() const {
    size_t longest = 0;
    for (size_t id = 0; id < text_.size(); ++id) {
      if (!special_[id]) longest = std::max(longest, text_[id].size());
      const AddedToken* const added = added_of_[id];
      const bool takes_spaces =
          added != nullptr && (added->takes_space_before || added->takes_space_after);
      if (takes_spaces && !added->special) return 0;
    }
    // Bytes that occur in no well-formed text need no token.
    for (int byte = 0; byte <= 0xf4; ++byte) {
      const bool needed = byte != 0xc0 && byte != 0xc1;
      if (needed && byte_ids_[byte] < 0) return 0;
    }
    for (const TextStep& step : config_.steps) {
      switch (step.kind) {
        case TextStep::Kind::kNfc:
        case TextStep::Kind::kNfkc:
          longest *= kMostComposed;
          break;
        case TextStep::Kind::kStrip:
          return 0;
        case TextStep::Kind::kReplace:
          if (step.by.empty()) return 0;
          longest *= std::max<size_t>(1, (step.text.size() + step.by.size() - 1) / step.by.size());
          break;
        default:
          break;
      }
    }
    for (const SplitRule& rule : config_.splits) {
      if (rule.behavior == SplitRule::Behavior::kRemoved && !rule.invert) return 0;
    }
    return longest;
  }

  static void Emit(Encoding& out, int32_t id, uint32_t begin, uint32_t end) {
    out.ids.push_back(id);
    out.begin.push_back(begin);
    out.end.push_back(end);
  }

  // The symbol at [begin, end) is no token.
  void AddUnknown(std::string_view symbol, size_t begin, std::vector<BpeSymbol>& symbols) const {
    const auto end = static_cast<uint32_t>(begin + symbol.size());
    const bool bytes = config_.alphabet == BpeConfig::Alphabet::kCharacters &&
                       config_.byte_fallback &&
                       std::all_of(symbol.begin(), symbol.end(), [&](const char byte) {
                         return byte_ids_[static_cast<unsigned char>(byte)] >= 0;
                       });
    if (bytes) {
      for (size_t i = 0; i < symbol.size(); ++i) {
        const auto at = static_cast<uint32_t>(begin + i);
        symbols.push_back({byte_ids_[static_cast<unsigned char>(symbol[i])], at, at + 1});
      }
    } else if (config_.unk_id >= 0) {
      const bool joins = config_.fuse_unk && !symbols.empty() &&
                         symbols.back().id == config_.unk_id && symbols.back().end == begin;
      if (joins) {
        symbols.back().end = end;
      } else {
        symbols.push_back({config_.unk_id, static_cast<uint32_t>(begin), end});
      }
    }
  }

  std::vector<BpeSymbol> SymbolsOf(std::string_view word) const {
    std::vector<BpeSymbol> symbols;
    symbols.reserve(word.size());
    if (config_.alphabet == BpeConfig::Alphabet::kBytes) {
      for (size_t i = 0; i < word.size(); ++i) {
        const int32_t id = byte_ids_[static_cast<unsigned char>(word[i])];
        const auto at = static_cast<uint32_t>(i);
        if (id >= 0) {
          symbols.push_back({id, at, at + 1});
        } else {
          AddUnknown(word.substr(i, 1), i, symbols);
        }
      }
      return symbols;
    }
    std::string character;
    for (size_t at = 0; at < word.size();) {
      const size_t length = Utf8CharLength(word.substr(at));
      character = word.substr(at, length);
      const auto found = ids_.find(character);
      if (found != ids_.end() && of_model_[found->second]) {
        symbols.push_back(
            {found->second, static_cast<uint32_t>(at), static_cast<uint32_t>(at + length)});
      } else {
        AddUnknown(character, at, symbols);
      }
      at += length;
    }
    return symbols;
  }

  std::vector<BpeSymbol> EncodeWord(std::string_view word) const {
    if (config_.ignore_merges) {
      const auto found = ids_.find(TokenTextOf(word));
      if (found != ids_.end() && !special_[found->second] && of_model_[found->second]) {
        return {{found->second, 0, static_cast<uint32_t>(word.size())}};
      }
    }
    std::vector<BpeSymbol> symbols = SymbolsOf(word);
    merges_.Apply(symbols);
    return symbols;
  }

  // A word as the vocabulary writes it.
  std::string TokenTextOf(std::string_view word) const {
    if (config_.alphabet == BpeConfig::Alphabet::kCharacters) return std::string(word);
    std::string text;
    for (const char byte : word) text += ByteAlphabet()[static_cast<unsigned char>(byte)];
    return text;
  }

  template <typename Next>
  static void WithSteps(const AlignedText& text, const std::vector<TextStep>& steps, Next next) {
    if (steps.empty()) {
      next(text);
    } else {
      next(ApplySteps(text, steps));
    }
  }

  // Emits the added tokens of a text and passes on the texts between them.
  template <typename Between>
  void CutAdded(const AlignedText& text, const AddedTokens& added, Encoding& out,
                Between between) const {
    if (added.empty()) {
      between(text);
      return;
    }
    const std::string_view bytes = text.text();
    struct Part {
      size_t begin, end;
      int32_t id;
    };
    std::vector<Part> parts;
    size_t taken = 0;  // the end of the white space that the last token takes
    added.Cut(bytes, [&](size_t begin, size_t end, int32_t id) {
      const AddedToken* const token = id < 0 ? nullptr : added_of_[id];
      if (token != nullptr && token->takes_space_before && end <= taken) id = -1;
      if (token != nullptr && token->single_word && !StandsAlone(bytes, begin, end)) id = -1;
      if (id >= 0 && token->takes_space_after) taken = end + LeadingSpaces(bytes.substr(end));
      if (id < 0 && !parts.empty() && parts.back().id < 0) {
        parts.back().end = end;
      } else {
        parts.push_back({begin, end, id});
      }
    });
    for (size_t i = 0; i < parts.size(); ++i) {
      Part& part = parts[i];
      if (part.id >= 0) {
        Emit(out, part.id, text.begin(part.begin), text.end(part.end - 1));
        continue;
      }
      if (i > 0 && added_of_[parts[i - 1].id]->takes_space_after) {
        part.begin += LeadingSpaces(bytes.substr(part.begin, part.end - part.begin));
        if (!out.end.empty() && part.begin > 0) out.end.back() = text.end(part.begin - 1);
      }
      if (i + 1 < parts.size() && added_of_[parts[i + 1].id]->takes_space_before) {
        const size_t end =
            part.begin + WithoutTrailingSpaces(bytes.substr(part.begin, part.end - part.begin));
        parts[i + 1].begin = end;
        part.end = end;
      }
      if (part.begin < part.end) between(text.Substring(part.begin, part.end - part.begin));
    }
  }

  void EncodeNormal(const AlignedText& text, Encoding& out) const {
    WordCache cache;
    const std::string_view bytes = text.text();
    cutter_.Cut(bytes, [&](size_t begin, size_t end) {
      const std::string_view word = bytes.substr(begin, end - begin);
      const auto emit = [&](const std::vector<BpeSymbol>& symbols) {
        for (const BpeSymbol& s : symbols) {
          Emit(out, s.id, text.begin(begin + s.begin), text.end(begin + s.end - 1));
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

  BpeConfig config_;
  std::vector<std::string> text_;  // what each token decodes to, in bytes
  std::vector<bool> special_;
  std::vector<const AddedToken*> added_of_;  // [tokens]; null: not an added token
  std::vector<bool> of_model_;               // false: known only as an added token
  AddedTexts all_added_, plain_added_;
  std::vector<TextStep> normalizer_, word_steps_;
  std::array<int32_t, 256> byte_ids_;
  size_t longest_token_ = 0;
  absl::flat_hash_map<std::string_view, int32_t> ids_;  // of config_.tokens
  BpeMerges merges_;
  PreTokenize cutter_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewBpe(BpeConfig config) {
  auto tokenizer = std::make_unique<Bpe>(std::move(config));
  LECTERN_RETURN_IF_ERROR(tokenizer->Init());
  return tokenizer;
}

}  // namespace lectern
