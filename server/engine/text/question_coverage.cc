#include "server/engine/text/question_coverage.h"

#include "server/engine/text/words.h"

namespace lectern {
namespace {

// An answer that takes no word from the evidence needs a share this many times the threshold.
constexpr double kUnfoundedAnswer = 1.5;

void AddStems(std::string_view text, Stemmer& stemmer, std::set<std::string>& stems) {
  for (const std::string& word : Words(text)) stems.insert(stemmer.Stem(word));
}

// The words of a question that its evidence is expected to hold.
std::set<std::string> AskedStems(const Language& language, std::string_view question,
                                 Stemmer& stemmer) {
  std::set<std::string> content, answer_types;
  for (const std::string& word : Words(question)) {
    if (language.IsFunctionWord(word)) continue;
    (language.IsAnswerType(word) ? answer_types : content).insert(stemmer.Stem(word));
  }
  return content.empty() ? answer_types : content;
}

}  // namespace

QuestionCoverage::QuestionCoverage(const LexicalIndex& index, std::string_view question,
                                   std::span<const std::string_view> passages)
    : language_(&index.language()) {
  Stemmer stemmer(*language_);
  AddStems(question, stemmer, question_);
  for (const std::string_view passage : passages) AddStems(passage, stemmer, passages_);
  double all = 0, covered = 0;
  for (const std::string& stem : AskedStems(*language_, question, stemmer)) {
    const double rarity = index.Rarity(stem);
    all += rarity;
    if (passages_.contains(stem)) covered += rarity;
  }
  if (all > 0) share_ = covered / all;
}

bool QuestionCoverage::TakesFromPassages(std::string_view answer) const {
  Stemmer stemmer(*language_);
  bool has_own = false;
  for (const std::string& word : Words(answer)) {
    if (language_->IsFunctionWord(word)) continue;
    const std::string stem = stemmer.Stem(word);
    if (question_.contains(stem)) continue;
    if (passages_.contains(stem)) return true;
    has_own = true;
  }
  return !has_own;
}

bool QuestionCoverage::IsDoubtful(std::string_view answer, double threshold) const {
  if (language_ == nullptr || share_ >= kUnfoundedAnswer * threshold) return false;
  return share_ < threshold || !TakesFromPassages(answer);
}

}  // namespace lectern
