#include "server/tokenizer/bpe/pre_tokenize.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/tokenizer/tokenizer_limits.h"

namespace lectern {
namespace {

using Behavior = SplitRule::Behavior;

// Joins the pieces of one division as its behaviour says, and passes them on in order.
class Joiner {
 public:
  Joiner(Behavior behavior, const std::function<void(size_t, size_t)>& piece)
      : behavior_(behavior), piece_(piece) {}
  ~Joiner() { Flush(); }
  Joiner(const Joiner&) = delete;
  Joiner& operator=(const Joiner&) = delete;

  void Add(size_t begin, size_t end, bool delimiter) {
    if (behavior_ == Behavior::kRemoved && delimiter) {
      Flush();
      return;
    }
    if (!Joins(delimiter)) Flush();
    if (!pending_) begin_ = begin;
    pending_ = true;
    end_ = end;
    delimiter_ = delimiter;
  }

 private:
  bool Joins(bool delimiter) const {
    switch (behavior_) {
      case Behavior::kMergedWithPrevious:
        return delimiter && !delimiter_;
      case Behavior::kMergedWithNext:
        return !delimiter && delimiter_;
      case Behavior::kContiguous:
        return delimiter == delimiter_;
      case Behavior::kIsolated:
      case Behavior::kRemoved:
        return false;
    }
    return false;
  }
  void Flush() {
    if (pending_) piece_(begin_, end_);
    pending_ = false;
  }

  const Behavior behavior_;
  const std::function<void(size_t, size_t)>& piece_;
  bool pending_ = false;
  bool delimiter_ = false;  // the last part that was added
  size_t begin_ = 0, end_ = 0;
};

// Like Regex::ForEach, for a text.
template <typename Piece>
void ForEachText(std::string_view text, std::string_view pattern, Piece piece) {
  size_t at = 0;
  while (true) {
    const size_t found = text.find(pattern, at);
    if (found == std::string_view::npos) break;
    if (found > at) piece(at, found, false);
    at = found + pattern.size();
    piece(found, at, true);
  }
  if (at < text.size()) piece(at, text.size(), false);
}

}  // namespace

SplitRule Gpt2Words() {
  return {.pattern =
              R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};
}

SplitRule SingleDigits() { return {.pattern = R"(\p{N})"}; }

absl::StatusOr<PreTokenize> PreTokenize::Create(const std::vector<SplitRule>& rules) {
  PreTokenize cutter;
  for (const SplitRule& rule : rules) {
    Rule& made = cutter.rules_.emplace_back(Rule{rule, nullptr});
    if (rule.pattern.empty()) return absl::InvalidArgumentError("a pattern is empty");
    if (rule.pattern.size() > kMaxPatternBytes) {
      return absl::InvalidArgumentError(absl::StrCat("a pattern of ", rule.pattern.size(),
                                                     " bytes; at most ", kMaxPatternBytes,
                                                     " are allowed"));
    }
    if (rule.literal) continue;
    LECTERN_ASSIGN_OR_RETURN(made.regex, Regex::Create(rule.pattern));
  }
  return cutter;
}

void PreTokenize::Cut(std::string_view text, const Piece& piece) const {
  if (!text.empty()) CutBy(0, text, 0, piece);
}

void PreTokenize::CutBy(size_t number, std::string_view text, size_t base,
                        const Piece& piece) const {
  if (number == rules_.size()) {
    piece(base, base + text.size());
    return;
  }
  const auto& [rule, regex] = rules_[number];
  const Piece next = [&](size_t begin, size_t end) {
    CutBy(number + 1, text.substr(begin, end - begin), base + begin, piece);
  };
  Joiner joiner(rule.behavior, next);
  const auto add = [&, invert = rule.invert](size_t begin, size_t end, bool matched) {
    joiner.Add(begin, end, matched != invert);
  };
  if (rule.literal) {
    ForEachText(text, rule.pattern, add);
  } else {
    regex->ForEach(text, add);
  }
}

}  // namespace lectern
