// Decides whether the best evidence speaks about what was asked. How often it is right:
// docs/measurements/quality.md, "no_evidence".
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "server/engine/text/language.h"
#include "server/engine/text/lexical_index.h"

namespace lectern {

// Compares the content words of a question, of its best evidence and of its answer by their stems.
// Function words of the language are no content words. In a question, neither are words that name
// the type of its answer ("time" in "At what time ...?"), unless it has no others.
class QuestionCoverage {
 public:
  // No evidence is known: share() is 1, and no answer is doubtful.
  QuestionCoverage() = default;
  // `passages`: the best sentences of the evidence in the document that `index` is of. Keeps no
  // reference to its arguments.
  QuestionCoverage(const LexicalIndex& index, std::string_view question,
                   std::span<const std::string_view> passages);

  // Share of the question's content words that occur in the passages, each weighted by its
  // rarity in the document; 0 to 1, and 1 if the question has none.
  double share() const { return share_; }

  // True if share() is below `threshold`; or below one and a half times the threshold, if the
  // answer brings content words that the question lacks, but none that is in the passages.
  bool IsDoubtful(std::string_view answer, double threshold) const;

 private:
  bool TakesFromPassages(std::string_view answer) const;

  const Language* language_ = nullptr;
  std::set<std::string> question_;  // stems of all its words
  std::set<std::string> passages_;  // stems of all their words
  double share_ = 1;
};

}  // namespace lectern
