// The common part of the strategies of decoders: the document's pages, the sequence that the answer
// continues, and the decode loop.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/engine/answering/answer_run.h"
#include "server/engine/answering/sequence.h"
#include "server/engine/answering/strategies/answer_strategy.h"
#include "server/model/model.h"

namespace lectern {

class DecoderStrategy : public AnswerStrategy {
 public:
  absl::Status CheckFits() const override;
  Task<absl::Status> Generate() override;
  int64_t visible_keys() const override { return sequence_.position(); }

 protected:
  // `run` must outlive the strategy.
  DecoderStrategy(AnswerRun& run, QuestionSuffix suffix);

  // Resets what an earlier Prefill() has left.
  void BeginPrefill();
  // The document's pages under the run's policy: those in the store, or computed.
  Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> DocumentPages();

  AnswerRun& run_;
  const QuestionSuffix suffix_;
  Sequence sequence_;          // continued by the answer
  std::vector<float> logits_;  // [vocabulary], of the sequence's last token
};

}  // namespace lectern
