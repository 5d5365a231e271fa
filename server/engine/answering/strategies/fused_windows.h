// Answers with a seq2seq model: the encoder reads the question with each part of the document, and
// the decoder writes the answer from all of them at once (fusion in decoder, Izacard and Grave
// 2021, arXiv 2007.01282).
#pragma once

#include <utility>
#include <vector>

#include "server/engine/answering/answer_run.h"
#include "server/engine/answering/sequence.h"
#include "server/engine/answering/strategies/answer_strategy.h"

namespace lectern {

class FusedWindows : public AnswerStrategy {
 public:
  // `run` must outlive the strategy.
  FusedWindows(AnswerRun& run, EncoderPrompt prompt) : run_(run), prompt_(std::move(prompt)) {}

  absl::Status CheckFits() const override;
  Task<absl::Status> Prefill() override;
  Task<absl::Status> Generate() override;
  int64_t visible_keys() const override { return sequence_.position() + memory_tokens_; }

 private:
  // Allocates the memory and the answer's sequence, dropping those of an earlier Prefill().
  Task<absl::Status> AllocatePages();
  // Encodes the windows into the memory.
  Task<absl::Status> Encode(const std::vector<std::vector<int32_t>>& inputs);
  // A decoder's slice with all but its tokens and pages.
  ForwardSlice DecoderSlice();
  // Attention of the answer's tokens to each token of the document.
  std::vector<float> DocumentMass() const;

  AnswerRun& run_;
  const EncoderPrompt prompt_;
  std::vector<TokenRange> windows_;
  PageSet memory_;  // keys and values of all windows' tokens, for the decoder
  int64_t memory_tokens_ = 0;
  std::vector<float> memory_mass_;  // [memory_tokens]: attention of the answer's tokens
  Sequence sequence_;               // the answer's own tokens
  std::vector<float> logits_;       // [vocabulary], of the sequence's last token
};

}  // namespace lectern
