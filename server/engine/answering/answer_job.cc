#include "server/engine/answering/answer_job.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"
#include "server/engine/answering/chunk_reading.h"
#include "server/engine/answering/evidence.h"
#include "server/engine/answering/sampler.h"
#include "server/engine/answering/stop_strings.h"
#include "server/engine/fault_points.h"
#include "server/engine/request_checks.h"

namespace lectern {

constexpr size_t kCoverageSentences = 3;

AnswerJob::AnswerJob(const EngineParts& parts, AskOptions options,
                     std::shared_ptr<const Model> model, DocumentStore::Lease lease,
                     std::shared_ptr<AskSink> sink)
    : QueuedJob({.is_upload = false,
                 .priority = options.priority,
                 .tenant = options.tenant,
                 .model = model->info().name},
                options.deadline, parts.clock),
      parts_(parts),
      options_(std::move(options)),
      model_(std::move(model)),
      lease_(std::move(lease)),
      sink_(std::move(sink)),
      tail_(model_->PromptSuffix(options_.question)),
      frame_(model_->EncoderPromptOf(options_.question)) {
  if (lease_ && lease_.resident()) ResolveReading();
  // The tokens of a text are not known yet; four bytes are a usual one.
  const uint64_t text = options_.inline_text ? options_.inline_text->size() / 4 : 0;
  SetWork({.prefill_tokens = tail_.ids.size() + frame_.size() + text,
           .decode_tokens = parts_.queue->estimate().AnswerTokens(options_.max_new_tokens)});
}

// In chunks, the longest prompt is a chunk with the question: no limit on the document.
absl::Status AnswerJob::CheckStored() const {
  if (lease_ && !lease_.resident()) return absl::OkStatus();  // once it is
  if (model_->info().kind != ModelKind::kGenerative) return CheckFrame();
  uint64_t longest = 0;
  for (const TokenRange& part : content().Parts(reading_)) {
    longest = std::max<uint64_t>(longest, content().PromptSize(part));
  }
  return CheckWindow(longest, tail_.ids.size(), options_.max_new_tokens, model_->info());
}

void AnswerJob::ResolveReading() {
  reading_ = lease_ && options_.reading == ReadingMode::kAuto ? lease_.reading()
                                                              : content().Resolve(options_.reading);
}

Task<Done> AnswerJob::Run() {
  start_ = clock_->Steady();
  const absl::Status status = co_await Answer();
  // Everything is given back before the sink hears of the end.
  Release();
  if (!status.ok()) {
    End(status);
    co_return Done{};
  }
  Record(answer_.finish_reason == FinishReason::kLength ? FinishLabel::kLength
                                                        : FinishLabel::kStop);
  parts_.queue->estimate().Answered(answer_.usage.generated_tokens);
  DelayPoint(Fault::kTell);
  std::exchange(sink_, nullptr)->OnAnswer(answer_);
  co_return Done{};
}

void AnswerJob::Release() {
  sequence_ = {};
  memory_ = {};
  lease_ = {};
  inline_ = nullptr;
}

void AnswerJob::End(const absl::Status& status) {
  Release();
  DelayPoint(Fault::kTell);
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

void AnswerJob::Record(FinishLabel label) {
  const absl::Duration now = clock_->Steady();
  const absl::Duration started = start_ == absl::ZeroDuration() ? now : start_;
  const absl::Duration prefilled = prefilled_ == absl::ZeroDuration() ? now : prefilled_;
  parts_.metrics->RequestFinished(
      {.model = model_->info().name,
       .finish = label,
       .prompt_tokens = answer_.usage.document_tokens + answer_.usage.question_tokens,
       .question_tokens = tail_.ids.size(),
       .generated_tokens = answer_.usage.generated_tokens,
       .queue = started - arrival(),
       .prefill = prefilled - started,
       .decode = now - prefilled,
       .total = now - arrival()});
}

Task<absl::Status> AnswerJob::Answer() {
  answer_.model = model_->info().name;
  policy_ = ResolvePolicy(options_.attention, model_->info());
  stage_ = WorkStage::kPrefill;
  LECTERN_CO_RETURN_IF_ERROR(co_await PrepareDocument());
  if (model_->info().kind == ModelKind::kGenerative) co_return co_await AnswerBehindDocument();
  co_return co_await AnswerFromWindows();
}

Task<absl::Status> AnswerJob::AnswerBehindDocument() {
  LECTERN_CO_RETURN_IF_ERROR(co_await ReadPrompt());
  bool retry_exact = false;
  LECTERN_CO_RETURN_IF_ERROR(CheckError(&retry_exact));
  if (retry_exact) {
    answer_.exactness.fell_back_to_exact = true;
    policy_ = AttentionPolicy::Exact();
    LECTERN_CO_RETURN_IF_ERROR(co_await ReadPrompt());
  }
  prefilled_ = clock_->Steady();
  stage_ = WorkStage::kDecode;
  LECTERN_CO_RETURN_IF_ERROR(co_await Decode());
  Finish();
  co_return absl::OkStatus();
}

Task<absl::Status> AnswerJob::PrepareDocument() {
  if (lease_) {
    answer_.document_id = lease_.id();
    if (lease_.resident()) co_return absl::OkStatus();
    LECTERN_CO_ASSIGN_OR_RETURN(lease_, co_await parts_.prefill->MakeResident(lease_, Owner()));
    ResolveReading();
    co_return CheckStored();
  }
  std::string text = *std::move(options_.inline_text);
  const uint64_t bytes = text.size();
  sink_->OnProgress(AskStage::kTokenizing, 0, bytes);
  const std::string sha256 = Sha256Hex(text);
  const std::string id = DocumentId(*model_, sha256);
  if (parts_.store->Has(id, options_.owner)) {
    LECTERN_CO_ASSIGN_OR_RETURN(lease_, parts_.store->Use(id, options_.owner));
    LECTERN_CO_ASSIGN_OR_RETURN(lease_, co_await parts_.prefill->MakeResident(lease_, Owner()));
  }
  if (!lease_) {
    auto prepared = co_await parts_.prefill->Prepare(model_, std::move(text), sha256, Owner());
    if (!prepared.ok()) co_return prepared.status();
    inline_ = *std::move(prepared);
  }
  sink_->OnProgress(AskStage::kTokenizing, bytes, bytes);
  ResolveReading();
  co_return CheckStored();
}

Task<absl::Status> AnswerJob::ReadPrompt() {
  answer_.usage = {.document_tokens = document_tokens(), .question_tokens = tail_.ids.size()};
  answer_.reading = reading_;
  sequence_ = {};
  kept_mass_ = {};
  logits_.resize(static_cast<size_t>(model_->info().vocabulary));
  if (reading_ == ReadingMode::kChunks) co_return co_await ReadChunks();
  co_return co_await ReadWhole();
}

// The document's pages: found, or read by this job or by another that is at it.
Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> AnswerJob::DocumentPages() {
  const uint64_t total = document_tokens();
  const bool shared = lease_ && !options_.disable_reuse;
  const DocumentPrefill::Key key{content().id, reading_, policy_};
  while (shared) {
    if (auto read = parts_.store->Find(lease_, reading_, policy_)) {
      answer_.usage.tokens_reused += total;
      parts_.metrics->PrefillTokens(model_->info().name, PrefillSource::kDocumentCache, total);
      co_return read;
    }
    if (!parts_.prefill->IsReading(key)) break;
    std::function<bool()> over = [this, &key] { return !parts_.prefill->IsReading(key); };
    const absl::Status waited = co_await parts_.scheduler->WaitUntil(std::move(over), Owner());
    if (!waited.ok()) co_return waited;
  }
  if (shared) {
    parts_.prefill->Begin(key);
    auto loaded = co_await parts_.prefill->Load(lease_, reading_, policy_, Owner());
    if (!loaded.ok() || *loaded != nullptr) {
      parts_.prefill->End(key);
      if (!loaded.ok()) co_return loaded.status();
      answer_.usage.tokens_reused += total;
      parts_.metrics->PrefillTokens(model_->info().name, PrefillSource::kDocumentCache, total);
      co_return *std::move(loaded);
    }
  }
  Scheduler::Progress progress = [this, total](uint64_t done) {
    sink_->OnProgress(AskStage::kPrefillDocument, done, total);
  };
  auto read = co_await parts_.prefill->Read(lease_ ? lease_.shared_content() : inline_, reading_,
                                            policy_, Owner(), std::move(progress));
  if (shared) parts_.prefill->End(key);
  if (!read.ok()) co_return read.status();
  answer_.usage.tokens_computed += total;
  DelayPoint(Fault::kPublish);
  if (shared) parts_.store->AddRead(content().id, *read);
  co_return *std::move(read);
}

// The question behind the whole document.
Task<absl::Status> AnswerJob::ReadWhole() {
  const ModelInfo& info = model_->info();
  const uint64_t tokens = document_tokens();
  auto document = co_await DocumentPages();
  if (!document.ok()) co_return document.status();
  const uint64_t own =
      Sequence::OwnTokens(tokens, tail_.ids.size() + options_.max_new_tokens, info);
  std::vector<uint64_t> sizes(1, own);
  auto pages = co_await parts_.prefill->AllocatePages(*model_, std::move(sizes), Owner());
  if (!pages.ok()) co_return pages.status();
  sequence_ = Sequence(*std::move(document), 0, tokens, info, std::move((*pages)[0]));
  std::vector<float> key_mass(tokens + tail_.ids.size(), 0.0f);
  // Only the question's own words tell evidence: the frame around them attends to what is near it.
  const std::array<size_t, 4> cuts = {0, tail_.question_begin, tail_.question_end,
                                      tail_.ids.size()};
  std::vector<ForwardSlice> requests;
  for (size_t part = 0; part + 1 < cuts.size(); ++part) {
    if (cuts[part] == cuts[part + 1]) continue;
    requests.push_back(
        {.tokens = std::span(tail_.ids).subspan(cuts[part], cuts[part + 1] - cuts[part]),
         .position = sequence_.position() + static_cast<int64_t>(cuts[part]),
         .pages = sequence_.pages(),
         .policy = &policy_,
         .kept_mass = &kept_mass_,
         .key_mass = part == 1 ? key_mass.data() : nullptr});
  }
  requests.back().logits = logits_.data();
  const Scheduler::Progress progress = [this](uint64_t done) {
    sink_->OnProgress(AskStage::kPrefillQuestion, done, tail_.ids.size());
  };
  const absl::Status computed =
      co_await parts_.scheduler->Run(*model_, requests, Owner(), &progress);
  if (!computed.ok()) co_return computed;
  sequence_.Advance(tail_.ids.size());
  answer_.usage.tokens_computed += tail_.ids.size();
  parts_.metrics->PrefillTokens(info.name, PrefillSource::kComputed, tail_.ids.size());
  const auto first = key_mass.begin() + static_cast<std::ptrdiff_t>(content().prefix.size());
  token_mass_.assign(first, first + static_cast<std::ptrdiff_t>(content().encoding.ids.size()));
  RankSentences();
  co_return absl::OkStatus();
}

// The question put to the likely chunks, then to the sentences that it attended to.
Task<absl::Status> AnswerJob::ReadChunks() {
  auto document = co_await DocumentPages();
  if (!document.ok()) co_return document.status();
  const absl::Status searched = co_await SearchChunks(*document);
  if (!searched.ok()) co_return searched;
  RankSentences();
  co_return co_await ReadAgain(*std::move(document));
}

Task<absl::Status> AnswerJob::SearchChunks(std::shared_ptr<const DocumentKv> document) {
  const ModelInfo& info = model_->info();
  const DocumentContent& text = content();
  const std::vector<size_t> candidates = ChooseCandidates(text, options_.question);
  std::vector<uint64_t> sizes;
  uint64_t considered = 0;
  for (const size_t chunk : candidates) {
    considered += text.chunks[chunk].size();
    sizes.push_back(
        Sequence::OwnTokens(text.PromptSize(text.chunks[chunk]), tail_.question_end, info));
  }
  answer_.considered_ratio =
      static_cast<double>(considered) / static_cast<double>(text.encoding.ids.size());
  auto pages = co_await parts_.prefill->AllocatePages(*model_, std::move(sizes), Owner());
  if (!pages.ok()) co_return pages.status();
  std::vector<Sequence> sequences;
  // Attention of the frame before the question, and of the question's own words.
  std::array<std::vector<std::vector<float>>, 2> key_mass;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const uint64_t tokens = text.PromptSize(text.chunks[candidates[i]]);
    sequences.emplace_back(document, candidates[i], tokens, info, std::move((*pages)[i]));
    for (auto& masses : key_mass) masses.emplace_back(tokens + tail_.question_end, 0.0f);
  }
  const std::array<size_t, 3> cuts = {0, tail_.question_begin, tail_.question_end};
  const uint64_t total = candidates.size() * tail_.question_end;
  std::vector<ForwardSlice> requests;
  for (size_t i = 0; i < candidates.size(); ++i) {
    for (size_t part = 0; part < 2; ++part) {
      requests.push_back(
          {.tokens = std::span(tail_.ids).subspan(cuts[part], cuts[part + 1] - cuts[part]),
           .position = sequences[i].position() + static_cast<int64_t>(cuts[part]),
           .pages = sequences[i].pages(),
           .policy = &policy_,
           .kept_mass = &kept_mass_,
           .key_mass = key_mass[part][i].data(),
           .evidence_only = true});
    }
  }
  const Scheduler::Progress progress = [this, chunks = candidates.size()](uint64_t done) {
    sink_->OnProgress(AskStage::kSearch, done / tail_.question_end, chunks);
  };
  const absl::Status computed =
      co_await parts_.scheduler->Run(*model_, requests, Owner(), &progress);
  if (!computed.ok()) co_return computed;
  answer_.usage.tokens_computed += total;
  parts_.metrics->PrefillTokens(info.name, PrefillSource::kComputed, total);
  token_mass_.assign(text.encoding.ids.size(), 0.0f);
  for (size_t i = 0; i < candidates.size(); ++i) {
    AddEvidence(text.chunks[candidates[i]], key_mass[0][i], key_mass[1][i]);
  }
  co_return absl::OkStatus();
}

// What the question's words attend to more than the frame before them does. Every prompt has places
// that draw attention whatever is asked, its first sentence above all, and each chunk has its own.
void AnswerJob::AddEvidence(const TokenRange& chunk, const std::vector<float>& frame,
                            const std::vector<float>& words) {
  const double frame_tokens = static_cast<double>(tail_.question_begin);
  const double own_tokens = static_cast<double>(tail_.question_end - tail_.question_begin);
  const double share = frame_tokens > 0 ? own_tokens / frame_tokens : 0;
  const size_t prefix = content().prefix.size();
  for (size_t i = 0; i < chunk.size(); ++i) {
    const double more = words[prefix + i] - share * frame[prefix + i];
    // Never nothing at all: there must be an order even where all is alike.
    const double least = words[prefix + i] / 1024.0;
    token_mass_[chunk.begin + i] = static_cast<float>(std::max(least, more));
  }
}

// The prompt that the answer continues: the best sentences and the question, behind the prefix that
// every part of the document begins with.
Task<absl::Status> AnswerJob::ReadAgain(std::shared_ptr<const DocumentKv> document) {
  const Encoding reading =
      model_->tokenizer().Encode(SecondReading(content(), evidence_), /*parse_special=*/false);
  const uint64_t prefix = content().prefix.size();
  LECTERN_CO_RETURN_IF_ERROR(CheckWindow(prefix + reading.ids.size(), tail_.ids.size(),
                                         options_.max_new_tokens, model_->info()));
  std::vector<int32_t> tokens = reading.ids;
  tokens.insert(tokens.end(), tail_.ids.begin(), tail_.ids.end());
  std::vector<uint64_t> sizes(
      1, Sequence::OwnTokens(prefix, tokens.size() + options_.max_new_tokens, model_->info()));
  auto pages = co_await parts_.prefill->AllocatePages(*model_, std::move(sizes), Owner());
  if (!pages.ok()) co_return pages.status();
  sequence_ = Sequence(std::move(document), 0, prefix, model_->info(), std::move((*pages)[0]));
  const ForwardSlice request{.tokens = tokens,
                             .position = sequence_.position(),
                             .pages = sequence_.pages(),
                             .policy = &policy_,
                             .logits = logits_.data(),
                             .kept_mass = &kept_mass_};
  const uint64_t total = tokens.size();
  const Scheduler::Progress progress = [this, total](uint64_t done) {
    sink_->OnProgress(AskStage::kPrefillQuestion, done, total);
  };
  const absl::Status computed =
      co_await parts_.scheduler->Run(*model_, {&request, 1}, Owner(), &progress);
  if (!computed.ok()) co_return computed;
  sequence_.Advance(total);
  answer_.usage.tokens_computed += total;
  parts_.metrics->PrefillTokens(model_->info().name, PrefillSource::kComputed, total);
  co_return absl::OkStatus();
}

void AnswerJob::RankSentences() {
  const DocumentContent& text = content();
  const uint32_t wanted = std::max(options_.max_evidence_spans, kSecondReadingSentences);
  evidence_ = RankEvidence(text.text, text.encoding, text.sentences, token_mass_, wanted);
  std::vector<std::string_view> best;
  for (const EvidenceSpan& span : evidence_.spans) {
    if (best.size() < kCoverageSentences) best.push_back(span.text);
  }
  question_coverage_ = text.words->Coverage(options_.question, best);
  if (reading_ != ReadingMode::kChunks) return;
  for (EvidenceSpan& span : evidence_.spans) span.chunk = ChunkOf(text, span.begin_byte);
}

absl::Status AnswerJob::CheckError(bool* retry_exact) const {
  if (!options_.attention.max_error) return absl::OkStatus();
  if (kept_mass_.count == 0) {
    parts_.metrics->ExactnessChecked(ExactnessResult::kExact);
    return absl::OkStatus();
  }
  const double error = 1 - kept_mass_.sum / static_cast<double>(kept_mass_.count);
  const bool within = error <= *options_.attention.max_error;
  parts_.metrics->ExactnessChecked(within ? ExactnessResult::kWithinBound
                                          : ExactnessResult::kViolated);
  if (within) return absl::OkStatus();
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

void AnswerJob::Show(const std::string& text) {
  if (text.empty()) return;
  if (first_text_ == absl::ZeroDuration()) {
    first_text_ = clock_->Steady() - arrival();
    parts_.metrics->FirstText(
        answer_.model, answer_.usage.document_tokens + answer_.usage.question_tokens, first_text_);
  }
  answer_.text += text;
  sink_->OnText(text, std::exchange(unsent_tokens_, 0));
}

Task<absl::Status> AnswerJob::Decode() {
  const Tokenizer& tokenizer = model_->tokenizer();
  const auto decoder = tokenizer.NewStreamDecoder();
  Sampler sampler(options_.sampling);
  StopStrings stops(options_.stop);
  absl::Duration last_token = clock_->Steady();
  answer_.finish_reason = FinishReason::kLength;
  while (answer_.usage.generated_tokens < options_.max_new_tokens) {
    const int32_t token = sampler.Next(logits_);
    if (token == tokenizer.eos_id()) {
      answer_.finish_reason = FinishReason::kStop;
      break;
    }
    ++answer_.usage.generated_tokens;
    ++unsent_tokens_;
    Show(stops.Append(decoder->Append(token)));
    if (stops.stopped()) break;
    if (answer_.usage.generated_tokens == options_.max_new_tokens) break;
    const ForwardSlice request{.tokens = {&token, 1},
                               .position = sequence_.position(),
                               .pages = sequence_.pages(),
                               .policy = &policy_,
                               .memory = memory_.pages(),
                               .memory_tokens = memory_tokens_,
                               .logits = logits_.data(),
                               .kept_mass = &kept_mass_,
                               .key_mass = memory_mass_.empty() ? nullptr : memory_mass_.data()};
    const absl::Status computed = co_await parts_.scheduler->Run(*model_, {&request, 1}, Owner());
    if (!computed.ok()) co_return computed;
    sequence_.Advance(1);
    const absl::Duration now = clock_->Steady();
    parts_.metrics->InterToken(answer_.model, now - std::exchange(last_token, now));
  }
  if (!stops.stopped()) Show(stops.Append(decoder->Finish()));
  if (!stops.stopped()) Show(stops.Finish());
  if (stops.stopped()) {
    answer_.finish_reason = FinishReason::kStopString;
    answer_.stop_string = stops.found();
  }
  co_return absl::OkStatus();
}

void AnswerJob::Finish() {
  answer_.evidence = std::move(evidence_.spans);
  if (answer_.evidence.size() > options_.max_evidence_spans) {
    answer_.evidence.resize(options_.max_evidence_spans);
  }
  answer_.evidence_strength = evidence_.strength;
  answer_.question_coverage = question_coverage_;
  answer_.no_evidence = question_coverage_ < parts_.no_evidence_threshold;
  FillExactness();
  const absl::Duration now = clock_->Steady();
  answer_.timings = {.queue = start_ - arrival(),
                     .prefill = prefilled_ - start_,
                     .time_to_first_text = first_text_,
                     .decode = now - prefilled_,
                     .total = now - arrival()};
}

void AnswerJob::FillExactness() {
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
  const auto keys =
      static_cast<double>(std::max<int64_t>(sequence_.position() + memory_tokens_, 1));
  const double selected =
      policy_.top_k == 0 ? 1.0 : std::min(1.0, static_cast<double>(policy_.top_k) / keys);
  parts_.metrics->AttentionSampled(answer_.model, exactness.kept_mass_mean, selected);
  const double units = policy_.ffn_top_k == 0 ? 1.0
                                              : static_cast<double>(policy_.ffn_top_k) /
                                                    static_cast<double>(info.ffn_units);
  parts_.metrics->FfnSampled(answer_.model, std::min(1.0, units));
}

}  // namespace lectern
