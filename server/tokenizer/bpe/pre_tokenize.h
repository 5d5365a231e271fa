// Divides a text into the pieces within which tokens are merged.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/text/regex.h"

namespace lectern {

// One division: `Split` of tokenizer.json. Each rule divides the pieces of the one before, and
// look-around sees only the piece.
struct SplitRule {
  // Decides what becomes of a match; the text between matches is always a piece or more.
  enum class Behavior {
    kIsolated,            // a piece
    kRemoved,             // left out
    kMergedWithPrevious,  // the end of the piece before
    kMergedWithNext,      // the beginning of the piece that follows
    kContiguous,          // one piece with the matches next to it
  };
  std::string pattern;   // a regular expression
  bool literal = false;  // `pattern` is a text
  Behavior behavior = Behavior::kIsolated;
  bool invert = false;  // the text between the matches is what `behavior` is about
  friend bool operator==(const SplitRule&, const SplitRule&) = default;
};

// The pattern of GPT-2 (Radford et al. 2019).
SplitRule Gpt2Words();
// Each numeric character (categories Nd, Nl, No) alone.
SplitRule SingleDigits();

// Immutable, thread-safe.
class PreTokenize {
 public:
  // Regex::Create's errors, also for an empty pattern or one of more than kMaxPatternBytes.
  static absl::StatusOr<PreTokenize> Create(const std::vector<SplitRule>& rules);

  // Calls `piece(begin, end)` for the pieces of `text` (well-formed UTF-8), which ascend.
  void Cut(std::string_view text, const std::function<void(size_t, size_t)>& piece) const;

 private:
  struct Rule {
    SplitRule rule;
    std::unique_ptr<const Regex> regex;
  };
  using Piece = std::function<void(size_t, size_t)>;
  void CutBy(size_t rule, std::string_view text, size_t base, const Piece& piece) const;

  std::vector<Rule> rules_;
};

}  // namespace lectern
