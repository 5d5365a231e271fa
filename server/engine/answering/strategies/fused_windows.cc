#include "server/engine/answering/strategies/fused_windows.h"

#include "base/status_macros.h"
#include "server/engine/answering/decode_loop.h"
#include "server/engine/answering/strategies/encoder_windows.h"
#include "server/engine/request_checks.h"

namespace lectern {

// The longest part of the document and the question must fit into the encoder's window.
absl::Status FusedWindows::CheckFits() const {
  return CheckContextLength({.document = LongestPart(run_),
                             .whole_document = run_.reading == ReadingMode::kWhole,
                             .question = prompt_.size()},
                            run_.model->info());
}

Task<absl::Status> FusedWindows::Prefill() {
  RecordDocument(run_, prompt_);
  windows_ = ChooseParts(run_);
  const std::vector<std::vector<int32_t>> inputs = EncoderInputs(run_, prompt_, windows_);
  memory_tokens_ = 0;
  for (const std::vector<int32_t>& input : inputs) {
    memory_tokens_ += static_cast<int64_t>(input.size());
  }
  LECTERN_CO_RETURN_IF_ERROR(co_await AllocatePages());
  LECTERN_CO_RETURN_IF_ERROR(co_await Encode(inputs));
  const int32_t start = run_.model->decoder_start();
  ForwardSlice begin = DecoderSlice();
  begin.tokens = {&start, 1};
  begin.pages = sequence_.pages();
  begin.policy = &run_.policy;
  begin.logits = logits_.data();
  begin.kept_mass = &run_.kept_mass;
  const absl::Status computed =
      co_await run_.parts.scheduler->Run(*run_.model, {&begin, 1}, run_.owner());
  if (!computed.ok()) co_return computed;
  sequence_.Advance(1);
  co_return absl::OkStatus();
}

Task<absl::Status> FusedWindows::AllocatePages() {
  memory_ = {};
  sequence_ = {};
  logits_.resize(static_cast<size_t>(run_.model->info().vocabulary));
  memory_mass_.assign(static_cast<size_t>(memory_tokens_), 0.0f);
  std::vector<uint64_t> sizes;
  sizes.push_back(static_cast<uint64_t>(memory_tokens_));
  sizes.push_back(uint64_t{run_.options.max_new_tokens} + 1);
  auto pages = co_await run_.parts.allocator->Allocate(*run_.model, std::move(sizes), run_.owner());
  if (!pages.ok()) co_return pages.status();
  memory_ = std::move((*pages)[0]);
  sequence_ = Sequence(std::move((*pages)[1]));
  co_return absl::OkStatus();
}

Task<absl::Status> FusedWindows::Encode(const std::vector<std::vector<int32_t>>& inputs) {
  std::vector<ForwardSlice> slices;
  int64_t position = 0;
  for (const std::vector<int32_t>& input : inputs) {
    slices.push_back({.tokens = input,
                      .position = position,
                      .pages = memory_.pages(),
                      .policy = &run_.policy,
                      .encode = true,
                      .kept_mass = &run_.kept_mass});
    position += static_cast<int64_t>(input.size());
  }
  const auto total = static_cast<uint64_t>(memory_tokens_);
  const Scheduler::Progress progress = [this, total](uint64_t done) {
    run_.sink->OnProgress(AskStage::kPrefillQuestion, done, total);
  };
  co_return co_await run_.parts.scheduler->Run(*run_.model, slices, run_.owner(), &progress);
}

ForwardSlice FusedWindows::DecoderSlice() {
  return {
      .memory = memory_.pages(), .memory_tokens = memory_tokens_, .key_mass = memory_mass_.data()};
}

Task<absl::Status> FusedWindows::Generate() {
  LECTERN_CO_RETURN_IF_ERROR(co_await DecodeAnswer(run_, sequence_, logits_, DecoderSlice()));
  run_.RankSentences(DocumentMass());
  co_return absl::OkStatus();
}

std::vector<float> FusedWindows::DocumentMass() const {
  std::vector<float> mass(run_.content->encoding.ids.size(), 0.0f);
  size_t at = 0;
  for (const TokenRange& window : windows_) {
    at += prompt_.before.size();
    for (size_t token = window.begin; token < window.end; ++token) {
      mass[token] += memory_mass_[at++];
    }
    at += prompt_.after.size();
  }
  return mass;
}

}  // namespace lectern
