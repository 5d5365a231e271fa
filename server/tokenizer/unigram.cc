#include "server/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/utf8.h"
#include "server/tokenizer/char_map.h"
#include "server/tokenizer/normalized_text.h"

namespace lectern {
namespace {

using Piece = UnigramConfig::Piece;
using Type = Piece::Type;

constexpr size_t kMaxPieces = size_t{1} << 22;
constexpr size_t kMaxPieceBytes = 4096;
constexpr std::string_view kSpace = "\xe2\x96\x81";          // U+2581
constexpr std::string_view kUnknownText = " \xe2\x81\x87 ";  // U+2047 between spaces
constexpr std::string_view kReplacement = "\xef\xbf\xbd";    // U+FFFD
constexpr float kUnknownPenalty = 10;

std::string ByteName(uint8_t byte) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

class Unigram;

class UnigramDecoder : public StreamDecoder {
 public:
  explicit UnigramDecoder(const Unigram& tokenizer) : tokenizer_(tokenizer) {}
  std::string Append(int32_t id) override;
  std::string Finish() override { return ReplaceInvalidUtf8(std::exchange(bytes_, {})); }

 private:
  const Unigram& tokenizer_;
  bool at_start_ = true;
  std::string bytes_;  // of byte pieces that do not make whole characters yet
};

class Unigram : public Tokenizer {
 public:
  explicit Unigram(UnigramConfig config) : config_(std::move(config)) {}

  absl::Status Prepare() {
    LECTERN_RETURN_IF_ERROR(Check());
    auto map = CharMap::Parse(config_.char_map);
    if (!map.ok()) return Bad(absl::StrCat("the character map ", Text(map.status())));
    map_ = *std::move(map);
    float lowest = std::numeric_limits<float>::max(),
          highest = std::numeric_limits<float>::lowest();
    for (size_t id = 0; id < config_.pieces.size(); ++id) {
      const Piece& piece = config_.pieces[id];
      if (piece.type == Type::kNormal || piece.type == Type::kUserDefined) {
        sorted_.push_back(static_cast<int32_t>(id));
      }
      if (piece.type != Type::kNormal) continue;
      lowest = std::min(lowest, piece.score);
      highest = std::max(highest, piece.score);
    }
    if (sorted_.empty()) return Bad("no piece stands for text");
    std::sort(sorted_.begin(), sorted_.end(),
              [&](int32_t a, int32_t b) { return TextOf(a) < TextOf(b); });
    for (size_t i = 1; i < sorted_.size(); ++i) {
      if (TextOf(sorted_[i]) == TextOf(sorted_[i - 1])) {
        return Bad(absl::StrCat("pieces ", sorted_[i - 1], " and ", sorted_[i], " are the same"));
      }
    }
    unknown_score_ = lowest - kUnknownPenalty;
    highest_score_ = highest;
    return IndexFirstBytes();
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(config_.pieces.size()); }
  int32_t eos_id() const override { return config_.eos_id; }
  // Normalisation may make any number of bytes one token's.
  size_t longest_token_bytes() const override { return 0; }
  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < vocab_size() && config_.pieces[id].type == Type::kControl;
  }

  Encoding Encode(std::string_view text, bool parse_special) const override {
    Encoding encoding;
    size_t begin = 0;
    while (parse_special && begin < text.size()) {
      const auto [at, id] = NextSpecial(text, begin);
      if (id < 0) break;
      AddText(text.substr(begin, at - begin), begin, encoding);
      begin = at + config_.pieces[id].text.size();
      Add(id, at, begin, encoding);
    }
    AddText(text.substr(begin), begin, encoding);
    return encoding;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    UnigramDecoder decoder(*this);
    std::string text;
    for (const int32_t id : ids) {
      if (IsSpecial(id) && !skip_special) {
        text += decoder.Finish() + config_.pieces[id].text;
      } else {
        text += decoder.Append(id);
      }
    }
    return text + decoder.Finish();
  }

  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return std::make_unique<UnigramDecoder>(*this);
  }

  // The byte that an id stands for, or -1.
  int ByteOf(int32_t id) const {
    const auto found = std::find(byte_ids_.begin(), byte_ids_.end(), id);
    return found == byte_ids_.end() ? -1 : static_cast<int>(found - byte_ids_.begin());
  }

  // Null for an id that is no piece.
  const Piece* PieceOf(int32_t id) const {
    return id < 0 || id >= vocab_size() ? nullptr : &config_.pieces[id];
  }

 private:
  static std::string Text(const absl::Status& status) { return std::string(status.message()); }

  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(config_.source, ": ", what));
  }

  absl::Status Check() const {
    const size_t count = config_.pieces.size();
    if (count == 0 || count > kMaxPieces) {
      return Bad(absl::StrCat(count, " pieces; 1 to ", kMaxPieces, " are allowed"));
    }
    for (size_t id = 0; id < count; ++id) {
      const Piece& piece = config_.pieces[id];
      if (piece.text.empty() || piece.text.size() > kMaxPieceBytes) {
        return Bad(absl::StrCat("piece ", id, " has ", piece.text.size(), " bytes; 1 to ",
                                kMaxPieceBytes, " are allowed"));
      }
      if (!std::isfinite(piece.score)) return Bad(absl::StrCat("piece ", id, " has no score"));
    }
    const auto inside = [&](int64_t id) { return id >= 0 && id < static_cast<int64_t>(count); };
    if (!inside(config_.unknown_id)) {
      return Bad(
          absl::StrCat("the unknown piece, ", config_.unknown_id, ", is not one of ", count));
    }
    if (config_.eos_id != -1 && !inside(config_.eos_id)) {
      return Bad(absl::StrCat("the end piece, ", config_.eos_id, ", is not one of ", count));
    }
    return absl::OkStatus();
  }

  absl::Status IndexFirstBytes() {
    // sorted_[first_[b], first_[b + 1]) begin with byte b.
    first_.assign(257, sorted_.size());
    for (size_t i = sorted_.size(); i-- > 0;) {
      first_[static_cast<uint8_t>(TextOf(sorted_[i])[0])] = i;
    }
    for (int byte = 255; byte >= 0; --byte) first_[byte] = std::min(first_[byte], first_[byte + 1]);
    if (!config_.byte_fallback) return absl::OkStatus();
    byte_ids_.assign(256, -1);
    for (size_t id = 0; id < config_.pieces.size(); ++id) {
      if (config_.pieces[id].type != Type::kByte) continue;
      for (int byte = 0; byte < 256; ++byte) {
        if (config_.pieces[id].text == ByteName(static_cast<uint8_t>(byte))) {
          byte_ids_[byte] = static_cast<int32_t>(id);
        }
      }
    }
    if (std::count(byte_ids_.begin(), byte_ids_.end(), -1) > 0) {
      return Bad("asks for byte pieces and has not all of them");
    }
    return absl::OkStatus();
  }

  const std::string& TextOf(int32_t id) const { return config_.pieces[id].text; }

  // The next control piece written out at or behind `from`; the longest of several at one place.
  std::pair<size_t, int32_t> NextSpecial(std::string_view text, size_t from) const {
    size_t best = std::string_view::npos;
    int32_t found = -1;
    for (int32_t id = 0; id < vocab_size(); ++id) {
      if (!IsSpecial(id)) continue;
      const size_t at = text.find(TextOf(id), from);
      const bool longer = at == best && found >= 0 && TextOf(id).size() > TextOf(found).size();
      if (at != std::string_view::npos && (at < best || longer)) {
        best = at;
        found = id;
      }
    }
    return {best, found};
  }

  NormalizedText Normalize(std::string_view text) const {
    NormalizedText out;
    bool after_space = config_.remove_extra_whitespaces;
    bool any = false;
    const auto space = [&](size_t begin, size_t end) {
      if (after_space && config_.remove_extra_whitespaces) return;
      out.Append(kSpace, begin, end);
      after_space = true;
    };
    for (size_t at = 0; at < text.size();) {
      const size_t length = Utf8CharLength(text.substr(at));
      CharMap::Match match = length == 0 ? CharMap::Match{} : map_.LongestAt(text.substr(at));
      if (match.length == 0) {
        match = length == 0 ? CharMap::Match{IllFormed(text.substr(at)), kReplacement}
                            : CharMap::Match{length, text.substr(at, length)};
      }
      // A replacement may end inside a character of a text that is cut oddly; it never does in
      // well-formed ones.
      const size_t next = at + match.length;
      std::string_view rest = match.replacement;
      while (!rest.empty()) {
        const size_t blank = std::min(rest.find(' '), rest.size());
        if (blank > 0) {
          if (!any && config_.add_dummy_prefix) Prefix(out, at);
          any = true;
          out.Append(rest.substr(0, blank), at, next);
          after_space = false;
        }
        if (blank == rest.size()) break;
        if (!any && config_.add_dummy_prefix && !config_.remove_extra_whitespaces) {
          Prefix(out, at);
          any = true;
        }
        space(at, next);
        rest.remove_prefix(blank + 1);
      }
      at = next;
    }
    while (config_.remove_extra_whitespaces && out.text.ends_with(kSpace)) {
      out.Truncate(out.text.size() - kSpace.size());
    }
    return out;
  }

  static void Prefix(NormalizedText& out, size_t at) { out.Append(kSpace, at, at); }

  static size_t IllFormed(std::string_view text) {
    size_t length = 1;
    while (length < text.size() && !IsUtf8Boundary(text, length)) ++length;
    return std::min<size_t>(length, 4);
  }

  static void Add(int32_t id, size_t begin, size_t end, Encoding& encoding) {
    encoding.ids.push_back(id);
    encoding.begin.push_back(static_cast<uint32_t>(begin));
    encoding.end.push_back(static_cast<uint32_t>(end));
  }

  // The best way to reach a place in the normalised text.
  struct Step {
    float score = 0;
    int32_t id = -1;
    int64_t from = -1;  // -1: not reached
  };

  // Viterbi over the whole text, as SentencePiece does it: float sums, the first of equal paths.
  std::vector<Step> BestPath(std::string_view text) const {
    std::vector<Step> steps(text.size() + 1);
    steps[0].from = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t one = std::max<size_t>(1, Utf8CharLength(text.substr(at)));
      const float score = steps[at].score;
      bool known = false;
      const auto reach = [&](size_t length, float more, int32_t id) {
        Step& step = steps[at + length];
        if (step.from >= 0 && score + more <= step.score) return;
        step = {score + more, id, static_cast<int64_t>(at)};
      };
      // Pieces that the text begins with: a range of sorted_ that shrinks byte by byte.
      const auto byte = static_cast<uint8_t>(text[at]);
      auto low = sorted_.begin() + static_cast<std::ptrdiff_t>(first_[byte]);
      auto high = sorted_.begin() + static_cast<std::ptrdiff_t>(first_[byte + 1]);
      for (size_t length = 1; low < high && at + length <= text.size(); ++length) {
        const std::string& shortest = TextOf(*low);
        if (shortest.size() == length) {
          const Piece& piece = config_.pieces[*low];
          const float more = piece.type == Type::kUserDefined
                                 ? static_cast<float>(length) * highest_score_ - 0.1f
                                 : piece.score;
          reach(length, more, *low);
          known |= length == one;
          ++low;
        }
        if (at + length == text.size()) break;
        const auto next = static_cast<uint8_t>(text[at + length]);
        const auto byte_at = [&](int32_t id) { return static_cast<uint8_t>(TextOf(id)[length]); };
        low = std::partition_point(low, high, [&](int32_t id) { return byte_at(id) < next; });
        high = std::partition_point(low, high, [&](int32_t id) { return byte_at(id) == next; });
      }
      if (!known) reach(std::min(one, text.size() - at), unknown_score_, config_.unknown_id);
      // On to the next place; the character there is whole since the text is.
      at += one;
    }
    return steps;
  }

  void AddText(std::string_view text, size_t offset, Encoding& encoding) const {
    const NormalizedText normal = Normalize(text);
    const std::vector<Step> steps = BestPath(normal.text);
    std::vector<std::pair<size_t, size_t>> pieces;  // [begin, end), last first
    for (size_t end = normal.text.size(); end > 0;) {
      const auto begin = static_cast<size_t>(steps[end].from);
      pieces.emplace_back(begin, end);
      end = begin;
    }
    bool after_unknown = false;
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      const int32_t id = steps[piece->second].id;
      const size_t begin = offset + normal.begin[piece->first];
      const size_t end = offset + normal.end[piece->second - 1];
      const bool unknown = id == config_.unknown_id;
      if (unknown && config_.byte_fallback) {
        for (size_t i = piece->first; i < piece->second; ++i) {
          Add(byte_ids_[static_cast<uint8_t>(normal.text[i])], begin, end, encoding);
        }
      } else if (unknown && after_unknown) {
        encoding.end.back() = static_cast<uint32_t>(end);  // one for all of them
      } else {
        Add(id, begin, end, encoding);
      }
      after_unknown = unknown;
    }
  }

  const UnigramConfig config_;
  CharMap map_;
  std::vector<int32_t> sorted_;  // pieces that stand for text, by their bytes
  std::vector<size_t> first_;    // by first byte
  std::vector<int32_t> byte_ids_;
  float unknown_score_ = 0;
  float highest_score_ = 0;
};

std::string UnigramDecoder::Append(int32_t id) {
  const Piece* piece = tokenizer_.PieceOf(id);
  if (piece == nullptr || piece->type == Type::kControl) return {};
  std::string text;
  if (const int byte = tokenizer_.ByteOf(id); byte >= 0) {
    bytes_ += static_cast<char>(byte);
    const size_t whole = Utf8ValidPrefix(bytes_);
    text = bytes_.substr(0, whole);
    bytes_.erase(0, whole);
    at_start_ = false;
    return text;
  }
  text = Finish();
  if (piece->type == Type::kUnknown) {
    text += kUnknownText;
  } else {
    std::string_view rest = piece->text;
    if (at_start_ && rest.starts_with(kSpace)) rest.remove_prefix(kSpace.size());
    for (size_t at; (at = rest.find(kSpace)) != std::string_view::npos;) {
      text += rest.substr(0, at);
      text += ' ';
      rest.remove_prefix(at + kSpace.size());
    }
    text += rest;
  }
  at_start_ = false;
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewUnigram(UnigramConfig config) {
  auto tokenizer = std::make_unique<Unigram>(std::move(config));
  LECTERN_RETURN_IF_ERROR(tokenizer->Prepare());
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace lectern
