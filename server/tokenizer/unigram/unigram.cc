#include "server/tokenizer/unigram/unigram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/text/byte_piece.h"
#include "server/tokenizer/text/piece_trie.h"
#include "server/tokenizer/tokenizer_limits.h"
#include "server/tokenizer/unigram/charsmap.h"
#include "server/tokenizer/unigram/unigram_decoder.h"
#include "server/tokenizer/unigram/unigram_text.h"

namespace lectern {
namespace {

// The score of an unknown character is this much below the worst piece's.
constexpr float kUnknownPenalty = 10;
// Sums restart at the first word after this many bytes.
constexpr size_t kSummedBytes = 8'192;
// Log-probabilities are above -30; ranks, which some models use instead, are above -kMaxPieces.
constexpr double kMaxScore = 1e9;
// The number of unused ids that may lie between the pieces and the added tokens.
constexpr int64_t kMaxUnusedIds = 65'536;

class Unigram : public Tokenizer {
 public:
  explicit Unigram(UnigramConfig config) : config_(std::move(config)) {}

  absl::Status Init() {
    LECTERN_RETURN_IF_ERROR(CheckPieces());
    LECTERN_RETURN_IF_ERROR(ReadAdded());
    LECTERN_RETURN_IF_ERROR(CheckIds());
    absl::StatusOr<Charsmap> charsmap = Charsmap::Create(config_.charsmap);
    if (!charsmap.ok()) {
      return Bad(absl::StrCat("charsmap: ", charsmap.status().message()));
    }
    charsmap_ = *std::move(charsmap);
    config_.charsmap.clear();
    LECTERN_RETURN_IF_ERROR(CheckSteps());
    decoder_.pieces = std::move(config_.pieces);
    decoder_.unk_surface = config_.unk_surface;
    decoder_.adds_prefix = config_.metaspace
                               ? config_.metaspace->prefix != MetaspaceRules::Prefix::kNever
                               : config_.add_dummy_prefix;
    decoder_.removes_spaces = !config_.metaspace && config_.remove_extra_whitespaces;
    BuildTries();
    return absl::OkStatus();
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(decoder_.pieces.size()); }
  int32_t eos_id() const override { return config_.eos_id; }
  int32_t FindToken(std::string_view text) const override {
    for (int32_t id = 0; id < vocab_size(); ++id) {
      if (decoder_.pieces[id].text == text) return id;
    }
    return -1;
  }
  // Normalisation may shorten a text by any number of blanks.
  size_t longest_token_bytes() const override { return 0; }
  bool IsSpecial(int32_t id) const override {
    return id >= 0 && id < vocab_size() && TypeOf(id) == PieceType::kControl;
  }

  Encoding Encode(std::string_view text, bool parse_special) const override {
    Encoding out;
    (parse_special ? all_added_ : plain_added_)
        .Cut(text, [&](size_t begin, size_t end, int32_t id) {
          if (id >= 0) {
            Emit(out, id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end));
          } else {
            EncodePlain(AlignedText(text.substr(begin, end - begin), begin), out);
          }
        });
    return out;
  }

  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    UnigramDecoder decoder(&decoder_, skip_special);
    std::string text;
    for (const int32_t id : ids) text += decoder.Append(id);
    return text + decoder.Finish();
  }

  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override {
    return std::make_unique<UnigramDecoder>(&decoder_, /*skip_special=*/true);
  }

 private:
  // The best path to a position in a word: its last piece is `id`, which begins at `start`.
  struct Step {
    double score = 0;
    int32_t start = -1;
    int32_t id = -1;
  };
  // The state of encoding one text.
  struct Work {
    std::vector<Step> steps;
    std::vector<std::pair<int32_t, size_t>> path;  // id, end in the word
    double sum = 0;  // of the previous words, as SentencePiece computes it
    bool after_unknown = false;
  };

  absl::Status Bad(const std::string& what) const {
    return MakeError(absl::StatusCode::kInvalidArgument,
                     absl::StrCat(config_.source, ": tokenizer: ", what),
                     {.reason = "MODEL_FILE_INVALID", .metadata = {{"file", config_.source}}});
  }
  PieceType TypeOf(int32_t id) const { return decoder_.pieces[id].type; }
  const std::string& TextOf(int32_t id) const { return decoder_.pieces[id].text; }
  std::string_view space() const {
    return config_.metaspace || config_.escape_whitespaces ? kMetaspace : std::string_view(" ");
  }

  absl::Status CheckText(const char* what, size_t id, const std::string& text) const {
    if (text.empty()) return Bad(absl::StrCat(what, " ", id, " is empty"));
    if (text.size() > kMaxPieceBytes) {
      return Bad(absl::StrCat(what, " ", id, " has ", text.size(), " bytes, at most ",
                              kMaxPieceBytes, " are allowed"));
    }
    if (!IsValidUtf8(text)) return Bad(absl::StrCat(what, " ", id, " is not UTF-8"));
    return absl::OkStatus();
  }

  absl::Status CheckPieces() {
    const size_t n = config_.pieces.size();
    if (n == 0 || n > kMaxPieces) {
      return Bad(absl::StrCat(n, " pieces; 1 to ", kMaxPieces, " are allowed"));
    }
    byte_ids_.fill(-1);
    std::unordered_map<std::string_view, size_t> seen;
    size_t unknown = 0;
    for (size_t id = 0; id < n; ++id) {
      const UnigramPiece& piece = config_.pieces[id];
      LECTERN_RETURN_IF_ERROR(CheckText("piece", id, piece.text));
      if (!(std::abs(piece.score) <= kMaxScore)) {  // nor NaN
        return Bad(absl::StrCat("the score of piece ", id, " is not a number of a sensible size"));
      }
      const auto [at, is_new] = seen.emplace(piece.text, id);
      if (!is_new) return Bad(absl::StrCat("piece ", id, " repeats piece ", at->second));
      unknown += piece.type == PieceType::kUnknown;
      if (piece.type != PieceType::kByte) continue;
      const int byte = ByteOfPiece(piece.text);
      if (byte < 0)
        return Bad(absl::StrCat("piece ", id, " is a byte, but is not spelled like <0x41>"));
      byte_ids_[byte] = static_cast<int32_t>(id);
    }
    if (unknown != 1 || config_.unk_id < 0 || config_.unk_id >= static_cast<int32_t>(n) ||
        config_.pieces[config_.unk_id].type != PieceType::kUnknown) {
      return Bad(absl::StrCat("unk_id ", config_.unk_id,
                              " is not the one unknown token; there are ", unknown));
    }
    if (config_.byte_fallback &&
        std::find(byte_ids_.begin(), byte_ids_.end(), -1) != byte_ids_.end()) {
      return Bad("unknown characters are to become bytes, but not every byte has a piece");
    }
    return absl::OkStatus();
  }

  absl::Status ReadAdded() {
    const int64_t limit = static_cast<int64_t>(config_.pieces.size()) + kMaxUnusedIds;
    std::vector<bool> taken;
    for (const AddedToken& token : config_.added) {
      if (token.id < 0 || token.id >= limit) {
        return Bad(absl::StrCat("added token ", token.id, " is out of range"));
      }
      LECTERN_RETURN_IF_ERROR(CheckText("added token", token.id, token.text));
      const size_t id = token.id;
      if (id >= config_.pieces.size()) {
        config_.pieces.resize(id + 1, {.type = PieceType::kUnused});
      }
      UnigramPiece& piece = config_.pieces[id];
      if (!piece.text.empty() && piece.text != token.text) {
        return Bad(absl::StrCat("id ", id, " is given to two tokens"));
      }
      piece.text = token.text;
      // Unknown characters become the unknown token even if it is listed.
      if (piece.type == PieceType::kUnknown) continue;
      piece.type = token.special ? PieceType::kControl : PieceType::kUserDefined;
    }
    return absl::OkStatus();
  }

  absl::Status CheckIds() const {
    for (const auto& [name, id] : {std::pair{"end", config_.eos_id}, {"pad", config_.pad_id}}) {
      if (id >= static_cast<int32_t>(config_.pieces.size())) {
        return Bad(absl::StrCat(name, " token ", id, " is out of range"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckSteps() const {
    if (!config_.metaspace) return absl::OkStatus();
    const std::vector<MetaspaceRules::Step>& steps = config_.metaspace->steps;
    if (steps.size() > kMaxNormalizerSteps) {
      return Bad(absl::StrCat(steps.size(), " normalizers, at most ", kMaxNormalizerSteps,
                              " are allowed"));
    }
    size_t growth = 1;
    for (const MetaspaceRules::Step& step : steps) {
      const bool blanks = step.kind == MetaspaceRules::Step::kReplaceBlanks;
      if (!blanks && step.kind != MetaspaceRules::Step::kReplace) continue;
      const size_t shortest = blanks ? 2 : step.pattern.size();
      if (shortest == 0) return Bad("a normalizer replaces nothing");
      if (!IsValidUtf8(step.pattern) || !IsValidUtf8(step.by)) {
        return Bad("a normalizer's text is not UTF-8");
      }
      growth *= std::max<size_t>(1, (step.by.size() + shortest - 1) / shortest);
      if (growth > kMaxReplaceGrowth) {
        return Bad(
            absl::StrCat("normalizers make texts more than ", kMaxReplaceGrowth, " times as long"));
      }
    }
    return absl::OkStatus();
  }

  void BuildTries() {
    std::vector<std::pair<std::string_view, int32_t>> pieces, user_defined, all, plain;
    std::vector<bool> added(decoder_.pieces.size(), false);
    for (const AddedToken& token : config_.added) {
      added[token.id] = true;
      all.emplace_back(TextOf(token.id), token.id);
      if (!token.special) plain.emplace_back(TextOf(token.id), token.id);
    }
    float worst = std::numeric_limits<float>::max(), best = std::numeric_limits<float>::lowest();
    cut_at_space_ = true;
    for (int32_t id = 0; id < vocab_size(); ++id) {
      const UnigramPiece& piece = decoder_.pieces[id];
      if (piece.type == PieceType::kControl && !added[id]) all.emplace_back(piece.text, id);
      if (piece.type == PieceType::kNormal) {
        worst = std::min(worst, static_cast<float>(piece.score));
        best = std::max(best, static_cast<float>(piece.score));
      }
      const bool own = piece.type == PieceType::kUserDefined && !added[id];
      if (own) user_defined.emplace_back(piece.text, id);
      if (piece.type != PieceType::kNormal && !own) continue;
      pieces.emplace_back(piece.text, id);
      if (piece.text.find(space(), 1) != std::string::npos) cut_at_space_ = false;
    }
    if (worst > best) worst = best = 0;  // no normal piece
    unknown_score_ = worst - kUnknownPenalty;
    best_score_ = best;
    pieces_ = PieceTrie(std::move(pieces));
    user_defined_ = PieceTrie(std::move(user_defined));
    all_added_ = AddedTokens(std::move(all));
    plain_added_ = AddedTokens(std::move(plain));
  }

  void EncodePlain(const AlignedText& text, Encoding& out) const {
    Work work;
    if (config_.metaspace) {
      for (const AlignedText& word : MetaspaceWords(text, *config_.metaspace, charsmap_)) {
        work.sum = 0;
        work.after_unknown = false;
        EncodeWord(word, 0, word.size(), work, out);
      }
      return;
    }
    const AlignedText normal = NormalizeForPieces(text, config_, charsmap_, user_defined_);
    const std::string_view bytes = normal.text();
    size_t summed_from = 0;
    for (size_t begin = 0; begin < bytes.size();) {
      size_t end = bytes.size();
      if (cut_at_space_) end = std::min(end, bytes.find(space(), begin + 1));
      if (begin - summed_from >= kSummedBytes) {
        work.sum = 0;
        summed_from = begin;
      }
      EncodeWord(normal, begin, end, work, out);
      begin = end;
    }
  }

  // Viterbi's algorithm over the bytes [begin, end) of `text`.
  void EncodeWord(const AlignedText& text, size_t begin, size_t end, Work& work,
                  Encoding& out) const {
    const std::string_view word = std::string_view(text.text()).substr(begin, end - begin);
    work.steps.assign(word.size() + 1, Step());
    work.steps[0].score = work.sum;
    for (size_t at = 0; at < word.size();) {
      const size_t char_length = Utf8CharLength(word.substr(at));
      bool whole_char = false;
      const double so_far = work.steps[at].score;
      const auto reach = [&](size_t length, double sum, int32_t id) {
        const double score = Rounded(sum);
        Step& step = work.steps[at + length];
        if (step.start < 0 || score > step.score) step = {score, static_cast<int32_t>(at), id};
      };
      pieces_.Prefixes(word.substr(at), [&](size_t length, int32_t id) {
        whole_char = whole_char || length == char_length;
        reach(length, so_far + ScoreOf(id, length), id);
      });
      if (!whole_char) reach(char_length, so_far + unknown_score_, config_.unk_id);
      at += char_length;
    }
    work.sum = work.steps.back().score;
    work.path.clear();
    for (size_t at = word.size(); at > 0; at = work.steps[at].start) {
      work.path.emplace_back(work.steps[at].id, at);
    }
    size_t at = begin;
    for (auto step = work.path.rbegin(); step != work.path.rend(); ++step) {
      EmitPiece(text, step->first, at, begin + step->second, work, out);
      at = begin + step->second;
    }
  }

  double Rounded(double score) const {
    return config_.metaspace ? score : static_cast<double>(static_cast<float>(score));
  }
  double ScoreOf(int32_t id, size_t length) const {
    if (TypeOf(id) != PieceType::kUserDefined) return decoder_.pieces[id].score;
    return static_cast<float>(length) * best_score_ - 0.1f;
  }

  void EmitPiece(const AlignedText& text, int32_t id, size_t begin, size_t end, Work& work,
                 Encoding& out) const {
    const bool unknown = id == config_.unk_id;
    if (unknown && config_.byte_fallback) {
      for (size_t at = begin; at < end; ++at) {
        Emit(out, byte_ids_[static_cast<unsigned char>(text.text()[at])], text.begin(at),
             text.end(at));
      }
    } else if (unknown && work.after_unknown) {
      out.end.back() = text.end(end - 1);
    } else {
      Emit(out, id, text.begin(begin), text.end(end - 1));
    }
    work.after_unknown = unknown;
  }

  static void Emit(Encoding& out, int32_t id, uint32_t begin, uint32_t end) {
    out.ids.push_back(id);
    out.begin.push_back(begin);
    out.end.push_back(end);
  }

  UnigramConfig config_;
  UnigramDecoder::Pieces decoder_;
  Charsmap charsmap_;
  PieceTrie pieces_, user_defined_;
  AddedTokens all_added_, plain_added_;
  std::array<int32_t, 256> byte_ids_;
  float unknown_score_ = 0;
  float best_score_ = 0;      // of the normal pieces
  bool cut_at_space_ = true;  // no piece reaches across the beginning of a word
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> NewUnigram(UnigramConfig config) {
  auto tokenizer = std::make_unique<Unigram>(std::move(config));
  LECTERN_RETURN_IF_ERROR(tokenizer->Init());
  return tokenizer;
}

}  // namespace lectern
