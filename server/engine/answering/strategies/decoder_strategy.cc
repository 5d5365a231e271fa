#include "server/engine/answering/strategies/decoder_strategy.h"

#include <algorithm>
#include <utility>

#include "server/engine/answering/decode_loop.h"
#include "server/engine/request_checks.h"

namespace lectern {

DecoderStrategy::DecoderStrategy(AnswerRun& run, QuestionSuffix suffix)
    : run_(run), suffix_(std::move(suffix)) {}

// In chunks, the longest prompt is a chunk with the question: no limit on the document.
absl::Status DecoderStrategy::CheckFits() const {
  uint64_t longest = 0;
  for (const TokenRange& part : run_.content->Parts(run_.reading)) {
    longest = std::max<uint64_t>(longest, run_.content->PromptSize(part));
  }
  return CheckContextLength({.document = longest,
                             .whole_document = run_.reading == ReadingMode::kWhole,
                             .question = suffix_.ids.size(),
                             .answer = run_.options.max_new_tokens},
                            run_.model->info());
}

void DecoderStrategy::BeginPrefill() {
  run_.answer.usage = {.document_tokens = run_.document_tokens(),
                       .question_tokens = suffix_.ids.size()};
  sequence_ = {};
  logits_.resize(static_cast<size_t>(run_.model->info().vocabulary));
}

Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> DecoderStrategy::DocumentPages() {
  const uint64_t total = run_.document_tokens();
  Scheduler::Progress progress = [this, total](uint64_t done) {
    run_.sink->OnProgress(AskStage::kPrefillDocument, done, total);
  };
  if (!run_.lease || run_.options.disable_reuse) {
    auto computed = co_await run_.parts.prefill->Compute(run_.content, run_.reading, run_.policy,
                                                         run_.owner(), std::move(progress));
    if (computed.ok()) run_.answer.usage.tokens_computed += total;
    co_return computed;
  }
  auto shared = co_await run_.parts.prefill->FindOrCompute(run_.lease, run_.reading, run_.policy,
                                                           run_.owner(), std::move(progress));
  if (!shared.ok()) co_return shared.status();
  if (shared->computed) {
    run_.answer.usage.tokens_computed += total;
  } else {
    run_.answer.usage.tokens_reused += total;
    run_.parts.metrics->PrefillTokens(run_.model->info().name, PrefillSource::kDocumentCache,
                                      total);
  }
  co_return std::move(shared->kv);
}

Task<absl::Status> DecoderStrategy::Generate() {
  return DecodeAnswer(run_, sequence_, logits_, /*step=*/{});
}

}  // namespace lectern
