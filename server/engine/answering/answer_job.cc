#include "server/engine/answering/answer_job.h"

#include <utility>

#include "base/hashing/sha256.h"
#include "base/status_macros.h"
#include "server/engine/answering/exactness.h"
#include "server/engine/documents/document_prefill.h"
#include "server/engine/fault_points.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

// Bytes of a usual token; the tokens of inline text are not known yet.
constexpr uint64_t kBytesPerToken = 4;

FinishLabel LabelOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
    case FinishReason::kStopString:
      return FinishLabel::kStop;
    case FinishReason::kLength:
      return FinishLabel::kLength;
    case FinishReason::kNoAnswer:
      return FinishLabel::kNoAnswer;
  }
  return FinishLabel::kError;
}

}  // namespace

AnswerJob::AnswerJob(const EngineParts& parts, AskOptions options,
                     std::shared_ptr<const Model> model, DocumentStore::Lease lease,
                     std::shared_ptr<AskSink> sink)
    : QueuedJob({.is_upload = false,
                 .priority = options.priority,
                 .tenant = options.tenant,
                 .model = model->info().name},
                options.deadline, parts.clock),
      run_{.parts = parts,
           .options = std::move(options),
           .model = std::move(model),
           .job = this,
           .lease = std::move(lease),
           .sink = std::move(sink),
           .stream = AnswerStream(parts.clock, parts.metrics, arrival())},
      prompt_(MakeQuestionPrompt(*run_.model, run_.options.question)),
      question_tokens_(TokensOf(prompt_)) {
  if (run_.lease && run_.lease.resident()) {
    run_.content = run_.lease.shared_content();
    ChooseStrategy();
  }
  const auto& text = run_.options.inline_text;
  SetWork({.prefill_tokens = question_tokens_ + (text ? text->size() / kBytesPerToken : 0),
           .decode_tokens = parts.queue->estimate().AnswerTokens(run_.options.max_new_tokens)});
}

absl::Status AnswerJob::CheckFits() const {
  return strategy_ == nullptr ? absl::OkStatus() : strategy_->CheckFits();
}

void AnswerJob::ChooseStrategy() {
  const ReadingMode wanted = run_.options.reading;
  run_.reading = run_.lease && wanted == ReadingMode::kAuto ? run_.lease.reading()
                                                            : run_.content->Resolve(wanted);
  strategy_ = MakeStrategy(run_, std::move(prompt_));
}

Task<Done> AnswerJob::Run() {
  start_ = clock_->Steady();
  const absl::Status status = co_await AnswerQuestion();
  // Everything is given back before the sink hears of the end.
  Release();
  if (!status.ok()) {
    End(status);
    co_return Done{};
  }
  Record(LabelOf(run_.answer.finish_reason));
  run_.parts.queue->estimate().Answered(run_.answer.usage.generated_tokens);
  DelayPoint(Fault::kTell);
  std::exchange(run_.sink, nullptr)->OnAnswer(run_.answer);
  co_return Done{};
}

void AnswerJob::Release() {
  strategy_ = nullptr;
  run_.lease = {};
  run_.content = nullptr;
}

void AnswerJob::End(const absl::Status& status) {
  Release();
  DelayPoint(Fault::kTell);
  if (absl::IsCancelled(status)) {
    run_.parts.metrics->Cancelled(run_.stage, SinceCancel());
    Record(FinishLabel::kCancelled);
  } else if (absl::IsDeadlineExceeded(status)) {
    run_.parts.metrics->DeadlineExceeded(run_.stage);
    Record(FinishLabel::kDeadline);
  } else {
    Record(FinishLabel::kError);
  }
  std::exchange(run_.sink, nullptr)->OnError(status);
}

void AnswerJob::Record(FinishLabel label) {
  const absl::Duration now = clock_->Steady();
  const absl::Duration started = start_ == absl::ZeroDuration() ? now : start_;
  const absl::Duration prefilled = prefilled_ == absl::ZeroDuration() ? now : prefilled_;
  const Usage& usage = run_.answer.usage;
  run_.parts.metrics->RequestFinished(
      {.model = run_.model->info().name,
       .finish = label,
       .prompt_tokens = usage.document_tokens + usage.question_tokens,
       .question_tokens = question_tokens_,
       .generated_tokens = usage.generated_tokens,
       .queue = started - arrival(),
       .prefill = prefilled - started,
       .decode = now - prefilled,
       .total = now - arrival()});
}

Task<absl::Status> AnswerJob::AnswerQuestion() {
  run_.answer.model = run_.model->info().name;
  run_.policy = ResolvePolicy(run_.options.attention, run_.model->info());
  run_.stage = WorkStage::kPrefill;
  LECTERN_CO_RETURN_IF_ERROR(co_await PrepareDocument());
  LECTERN_CO_RETURN_IF_ERROR(strategy_->CheckFits());
  run_.answer.reading = run_.reading;
  LECTERN_CO_RETURN_IF_ERROR(co_await strategy_->Prefill());
  LECTERN_CO_ASSIGN_OR_RETURN(run_.answer.exactness.fell_back_to_exact, MustRetryExactly(run_));
  if (run_.answer.exactness.fell_back_to_exact) {
    run_.policy = AttentionPolicy::Exact();
    run_.kept_mass = {};
    LECTERN_CO_RETURN_IF_ERROR(co_await strategy_->Prefill());
  }
  prefilled_ = clock_->Steady();
  run_.stage = WorkStage::kDecode;
  LECTERN_CO_RETURN_IF_ERROR(co_await strategy_->Generate());
  FinishAnswer();
  co_return absl::OkStatus();
}

// Makes the document's content known, and with it the strategy.
Task<absl::Status> AnswerJob::PrepareDocument() {
  if (!run_.lease) co_return co_await PrepareInlineText();
  run_.answer.document_id = run_.lease.id();
  if (strategy_ != nullptr) co_return absl::OkStatus();
  LECTERN_CO_ASSIGN_OR_RETURN(run_.lease,
                              co_await run_.parts.prefill->MakeResident(run_.lease, run_.owner()));
  run_.content = run_.lease.shared_content();
  ChooseStrategy();
  co_return absl::OkStatus();
}

// Inline text that is stored too is asked about like the stored document.
Task<absl::Status> AnswerJob::PrepareInlineText() {
  std::string text = *std::move(run_.options.inline_text);
  const uint64_t bytes = text.size();
  run_.sink->OnProgress(AskStage::kTokenizing, 0, bytes);
  const std::string sha256 = Sha256Hex(text);
  const std::string id = DocumentId(*run_.model, sha256);
  if (run_.parts.store->Has(id, run_.options.owner)) {
    LECTERN_CO_ASSIGN_OR_RETURN(run_.lease, run_.parts.store->Use(id, run_.options.owner));
    LECTERN_CO_ASSIGN_OR_RETURN(
        run_.lease, co_await run_.parts.prefill->MakeResident(run_.lease, run_.owner()));
    run_.content = run_.lease.shared_content();
  } else {
    auto prepared =
        co_await run_.parts.prefill->Prepare(run_.model, std::move(text), sha256, run_.owner());
    if (!prepared.ok()) co_return prepared.status();
    run_.content = *std::move(prepared);
  }
  run_.sink->OnProgress(AskStage::kTokenizing, bytes, bytes);
  ChooseStrategy();
  co_return absl::OkStatus();
}

void AnswerJob::FinishAnswer() {
  Answer& answer = run_.answer;
  answer.evidence = std::move(run_.evidence.spans);
  if (answer.evidence.size() > run_.options.max_evidence_spans) {
    answer.evidence.resize(run_.options.max_evidence_spans);
  }
  answer.evidence_strength = run_.evidence.strength;
  answer.question_coverage = run_.question_coverage.share();
  answer.no_evidence =
      answer.finish_reason == FinishReason::kNoAnswer ||
      run_.question_coverage.IsDoubtful(answer.text, run_.parts.no_evidence_threshold);
  FillExactness(strategy_->visible_keys(), run_);
  const absl::Duration now = clock_->Steady();
  answer.timings = {.queue = start_ - arrival(),
                    .prefill = prefilled_ - start_,
                    .time_to_first_text = run_.stream.first_text(),
                    .decode = now - prefilled_,
                    .total = now - arrival()};
}

}  // namespace lectern
