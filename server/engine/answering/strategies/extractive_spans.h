// Answers with an extractive model: its encoder reads the question with each window of the
// document, and the best span of the document is the answer, unless the model holds that there is
// none (answer_spans.h).
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "server/engine/answering/answer_run.h"
#include "server/engine/answering/strategies/answer_spans.h"
#include "server/engine/answering/strategies/answer_strategy.h"

namespace lectern {

class ExtractiveSpans : public AnswerStrategy {
 public:
  // `run` must outlive the strategy.
  ExtractiveSpans(AnswerRun& run, EncoderPrompt prompt) : run_(run), prompt_(std::move(prompt)) {}

  absl::Status CheckFits() const override;
  Task<absl::Status> Prefill() override;
  Task<absl::Status> Generate() override;
  int64_t visible_keys() const override { return 0; }

 private:
  // Windows of the parts that are read, overlapping, as long as the question leaves room for.
  std::vector<TokenRange> Windows();
  // Adds a span to the evidence unless it overlaps one that is there.
  bool AddSpan(const AnswerSpan& span);
  // Fills the evidence and the coverage of the question from the best spans, and returns the best
  // one; nullopt if no span holds text. Probabilities include the null score if it is given.
  std::optional<AnswerSpan> RankSpans(std::optional<double> null_score);

  AnswerRun& run_;
  const EncoderPrompt prompt_;
  std::vector<WindowScores> scores_;
};

}  // namespace lectern
