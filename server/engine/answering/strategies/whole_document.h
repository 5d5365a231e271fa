// Answers from a document that a decoder reads whole: one prompt of document and question.
#pragma once

#include "server/engine/answering/strategies/decoder_strategy.h"

namespace lectern {

class WholeDocument : public DecoderStrategy {
 public:
  WholeDocument(AnswerRun& run, QuestionSuffix suffix) : DecoderStrategy(run, std::move(suffix)) {}

  Task<absl::Status> Prefill() override;
};

}  // namespace lectern
