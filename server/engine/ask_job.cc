#include "server/engine/ask_job.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error_details.h"
#include "server/base/sha256.h"
#include "server/base/status_macros.h"
#include "server/engine/evidence.h"
#include "server/engine/request_checks.h"
#include "server/engine/sampler.h"
#include "server/engine/stop_strings.h"

namespace lectern {

AskJob::AskJob(const EngineParts& parts, AskOptions options, std::shared_ptr<const Model> model,
               DocumentStore::Lease lease, std::shared_ptr<AskSink> sink)
    : QueuedJob(options.deadline, parts.clock),
      parts_(parts),
      options_(std::move(options)),
      model_(std::move(model)),
      lease_(std::move(lease)),
      sink_(std::move(sink)),
      tail_(model_->PromptSuffix(options_.question)) {}

void AskJob::Run() {
  start_ = clock_->Steady();
  const absl::Status status = Answer();
  // Everything is given back before the sink hears of the end.
  own_pages_ = {};
  document_ = nullptr;
  if (!status.ok()) {
    End(status);
    return;
  }
  lease_ = {};
  inline_ = nullptr;
  Record(answer_.finish_reason == FinishReason::kLength ? FinishLabel::kLength
                                                        : FinishLabel::kStop);
  std::exchange(sink_, nullptr)->OnAnswer(answer_);
}

void AskJob::End(const absl::Status& status) {
  lease_ = {};
  inline_ = nullptr;
  if (absl::IsCancelled(status)) {
    parts_.metrics->Cancelled(stage_, SinceCancel());
    Record(FinishLabel::kCancelled);
  } else if (absl::IsDeadlineExceeded(status)) {
    parts_.metrics->DeadlineExceeded(stage_);
    Record(FinishLabel::kDeadline);
  } else {
    Record(FinishLabel::kError);
  }
  std::exchange(sink_, nullptr)->OnError(status);
}

void AskJob::Record(FinishLabel label) {
  const absl::Duration now = clock_->Steady();
  const absl::Duration started = start_ == absl::ZeroDuration() ? now : start_;
  const absl::Duration prefilled = prefilled_ == absl::ZeroDuration() ? now : prefilled_;
  parts_.metrics->RequestFinished(
      {.model = model_->info().name,
       .finish = label,
       .prompt_tokens = answer_.usage.document_tokens + answer_.usage.question_tokens,
       .question_tokens = question().size(),
       .generated_tokens = answer_.usage.generated_tokens,
       .queue = started - arrival(),
       .prefill = prefilled - started,
       .decode = now - prefilled,
       .total = now - arrival()});
}

absl::Status AskJob::Answer() {
  answer_.model = model_->info().name;
  answer_.reading = Reading::kWhole;
  policy_ = ResolvePolicy(options_.attention, model_->info());
  LECTERN_RETURN_IF_ERROR(Check(WorkStage::kQueue));
  stage_ = WorkStage::kPrefill;
  LECTERN_RETURN_IF_ERROR(PrepareDocument());
  LECTERN_RETURN_IF_ERROR(ReadQuestion(policy_));
  bool retry_exact = false;
  LECTERN_RETURN_IF_ERROR(CheckError(&retry_exact));
  if (retry_exact) {
    answer_.exactness.fell_back_to_exact = true;
    policy_ = AttentionPolicy::Exact();
    LECTERN_RETURN_IF_ERROR(ReadQuestion(policy_));
  }
  prefilled_ = clock_->Steady();
  stage_ = WorkStage::kDecode;
  LECTERN_RETURN_IF_ERROR(Decode());
  return Finish();
}

absl::Status AskJob::PrepareDocument() {
  if (lease_) {
    answer_.document_id = content().id;
    return absl::OkStatus();
  }
  const std::string& text = *options_.inline_text;
  sink_->OnProgress(AskStage::kTokenizing, 0, text.size());
  const std::string sha256 = Sha256Hex(text);
  const std::string id = DocumentId(*model_, sha256);
  if (parts_.store->Has(id, options_.owner)) {
    LECTERN_ASSIGN_OR_RETURN(lease_, parts_.store->Use(id, options_.owner));
  }
  if (!lease_) inline_ = PrepareContent(model_, text, sha256, kChunkTokens);
  sink_->OnProgress(AskStage::kTokenizing, text.size(), text.size());
  return CheckWindow(document_tokens(), question().size(), options_.max_new_tokens, model_->info());
}

absl::StatusOr<std::shared_ptr<const ReadDocument>> AskJob::DocumentPages(
    const AttentionPolicy& policy) {
  const DocumentContent& document = content();
  const uint64_t total = document_tokens();
  if (lease_ && !options_.disable_reuse) {
    if (auto read = parts_.store->Find(lease_, Reading::kWhole, policy)) {
      answer_.usage.tokens_reused += total;
      parts_.metrics->PrefillTokens(model_->info().name, PrefillSource::kDocumentCache, total);
      return read;
    }
  }
  LECTERN_ASSIGN_OR_RETURN(
      auto read,
      parts_.reader->Read(document, policy, *this, WorkStage::kPrefill, [&](uint64_t done) {
        sink_->OnProgress(AskStage::kPrefillDocument, done, total);
      }));
  answer_.usage.tokens_computed += total;
  if (lease_ && !options_.disable_reuse) parts_.store->AddRead(document.id, read);
  return read;
}

// The document's pages as far as they are full, then this answer's own.
std::vector<std::byte*> AskJob::SequencePages() const {
  const size_t shared = document_tokens() / model_->info().page_tokens;
  const auto document = document_->parts[0].pages();
  std::vector<std::byte*> pages(document.begin(), document.begin() + shared);
  pages.insert(pages.end(), own_pages_.pages().begin(), own_pages_.pages().end());
  return pages;
}

absl::Status AskJob::ReadQuestion(const AttentionPolicy& policy) {
  const ModelInfo& info = model_->info();
  const size_t document_tokens = this->document_tokens();
  answer_.usage = {.document_tokens = document_tokens, .question_tokens = question().size()};
  own_pages_ = {};
  document_ = nullptr;
  LECTERN_ASSIGN_OR_RETURN(document_, DocumentPages(policy));
  const size_t in_last = document_tokens % info.page_tokens;
  LECTERN_ASSIGN_OR_RETURN(
      own_pages_,
      parts_.reader->AllocatePages(*model_, in_last + question().size() + options_.max_new_tokens));
  if (in_last > 0) {
    std::memcpy(own_pages_.pages()[0],
                document_->parts[0].pages()[document_tokens / info.page_tokens], info.page_bytes);
  }
  kept_mass_ = {};
  logits_.resize(info.vocabulary);
  key_mass_.assign(document_tokens + question().size(), 0.0f);
  const std::vector<std::byte*> pages = SequencePages();
  // Only the question's own words tell evidence: the frame around them attends to what is near it.
  const size_t cuts[] = {0, tail_.question_begin, tail_.question_end, question().size()};
  for (int part = 0; part < 3; ++part) {
    const std::span<const int32_t> tokens =
        std::span(question()).subspan(cuts[part], cuts[part + 1] - cuts[part]);
    const StepRequest request{.tokens = tokens,
                              .position = static_cast<int64_t>(document_tokens + cuts[part]),
                              .pages = pages,
                              .policy = &policy,
                              .logits = logits_.data(),
                              .key_mass = part == 1 ? key_mass_.data() : nullptr,
                              .kept_mass = &kept_mass_};
    LECTERN_RETURN_IF_ERROR(
        parts_.stepper->Run(*model_, request, *this, WorkStage::kPrefill, [&](uint64_t done) {
          sink_->OnProgress(AskStage::kPrefillQuestion, cuts[part] + done, question().size());
        }));
  }
  answer_.usage.tokens_computed += question().size();
  parts_.metrics->PrefillTokens(info.name, PrefillSource::kComputed, question().size());
  return absl::OkStatus();
}

absl::Status AskJob::CheckError(bool* retry_exact) const {
  if (!options_.attention.max_error || kept_mass_.count == 0) return absl::OkStatus();
  const double error = 1 - kept_mass_.sum / static_cast<double>(kept_mass_.count);
  if (error <= *options_.attention.max_error) return absl::OkStatus();
  if (options_.attention.fall_back_to_exact) {
    *retry_exact = true;
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kFailedPrecondition,
                   absl::StrCat("the dropped softmax mass is ", error, " on average, above ",
                                *options_.attention.max_error),
                   {.reason = "EXACTNESS",
                    .metadata = {{"error", absl::StrCat(error)},
                                 {"limit", absl::StrCat(*options_.attention.max_error)}}});
}

absl::Status AskJob::Decode() {
  const Tokenizer& tokenizer = model_->tokenizer();
  const std::vector<std::byte*> pages = SequencePages();
  const auto decoder = tokenizer.NewStreamDecoder();
  Sampler sampler(options_.sampling);
  StopStrings stops(options_.stop);
  int64_t position = static_cast<int64_t>(document_tokens() + question().size());
  uint32_t unsent = 0;
  absl::Duration last_token = clock_->Steady();
  const auto show = [&](const std::string& text) {
    if (text.empty()) return;
    if (first_text_ == absl::ZeroDuration()) {
      first_text_ = clock_->Steady() - arrival();
      parts_.metrics->FirstText(answer_.model,
                                answer_.usage.document_tokens + answer_.usage.question_tokens,
                                first_text_);
    }
    answer_.text += text;
    sink_->OnText(text, std::exchange(unsent, 0));
  };
  answer_.finish_reason = FinishReason::kLength;
  while (answer_.usage.generated_tokens < options_.max_new_tokens) {
    const int32_t token = sampler.Next(logits_);
    if (token == tokenizer.eos_id()) {
      answer_.finish_reason = FinishReason::kStop;
      break;
    }
    ++answer_.usage.generated_tokens;
    ++unsent;
    show(stops.Append(decoder->Append(token)));
    if (stops.stopped()) break;
    if (answer_.usage.generated_tokens == options_.max_new_tokens) break;
    const StepRequest request{.tokens = {&token, 1},
                              .position = position++,
                              .pages = pages,
                              .policy = &policy_,
                              .logits = logits_.data(),
                              .kept_mass = &kept_mass_};
    LECTERN_RETURN_IF_ERROR(
        parts_.stepper->Run(*model_, request, *this, WorkStage::kDecode, nullptr));
    const absl::Duration now = clock_->Steady();
    parts_.metrics->InterToken(answer_.model, now - std::exchange(last_token, now));
  }
  if (!stops.stopped()) show(stops.Append(decoder->Finish()));
  if (!stops.stopped()) show(stops.Finish());
  if (stops.stopped()) {
    answer_.finish_reason = FinishReason::kStopString;
    answer_.stop_string = stops.found();
  }
  return absl::OkStatus();
}

absl::Status AskJob::Finish() {
  const DocumentContent& document = content();
  const std::span<const float> document_mass =
      std::span(key_mass_).subspan(document.prefix.size(), document.encoding.ids.size());
  Evidence evidence = RankEvidence(document.text, document.encoding, document.sentences,
                                   document_mass, options_.max_evidence_spans);
  answer_.evidence = std::move(evidence.spans);
  answer_.evidence_strength = evidence.strength;
  answer_.no_evidence = evidence.strength < parts_.no_evidence_threshold;
  Exactness& exactness = answer_.exactness;
  const ModelInfo& info = model_->info();
  exactness.exact = kept_mass_.count == 0 && policy_.ffn_top_k == 0;
  if (kept_mass_.count > 0) {
    exactness.kept_mass_mean = kept_mass_.sum / static_cast<double>(kept_mass_.count);
    exactness.kept_mass_min = kept_mass_.min;
  }
  exactness.policy = policy_;
  exactness.numerics = info.numerics;
  exactness.kv_cache = info.kv_cache;
  const uint64_t keys = answer_.usage.document_tokens + answer_.usage.question_tokens +
                        answer_.usage.generated_tokens;
  const double selected = policy_.top_k == 0
                              ? 1.0
                              : std::min(1.0, static_cast<double>(policy_.top_k) /
                                                  static_cast<double>(std::max<uint64_t>(keys, 1)));
  parts_.metrics->AttentionSampled(answer_.model, exactness.kept_mass_mean, selected);
  const absl::Duration now = clock_->Steady();
  answer_.timings = {.queue = start_ - arrival(),
                     .prefill = prefilled_ - start_,
                     .time_to_first_text = first_text_,
                     .decode = now - prefilled_,
                     .total = now - arrival()};
  return absl::OkStatus();
}

}  // namespace lectern
