// AnswerJob for models whose encoder reads the question together with a part of the document: an
// answer written from all parts at once (fusion in decoder, Izacard and Grave 2021, arXiv
// 2007.01282), or a span of the document.
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "server/engine/answering/answer_job.h"
#include "server/engine/answering/chunk_reading.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

// A window must have room for so much of the document, whatever the question.
constexpr size_t kLeastRoom = 32;
// An extractive model's windows overlap by this share, so that every answer is whole in one of
// them.
constexpr size_t kOverlapShare = 4;

// The text of some of the document's tokens.
ByteRange BytesOf(const Encoding& encoding, const TokenRange& tokens) {
  return {encoding.begin[tokens.begin], encoding.end[tokens.end - 1]};
}

// The same without the space around it: tokens of byte-level BPE begin with the space before a
// word.
ByteRange SpanBytes(const DocumentContent& text, const TokenRange& tokens) {
  ByteRange bytes = BytesOf(text.encoding, tokens);
  const auto space = [&](uint64_t at) { return absl::ascii_isspace(text.text[at]); };
  while (bytes.begin < bytes.end && space(bytes.begin)) ++bytes.begin;
  while (bytes.begin < bytes.end && space(bytes.end - 1)) --bytes.end;
  return bytes;
}

}  // namespace

// The longest part of the document and the question must fit into a window.
absl::Status AnswerJob::CheckFrame() const {
  const ModelInfo& info = model_->info();
  uint64_t longest = 0;
  for (const TokenRange& part : content().Parts(reading_)) {
    longest = std::max<uint64_t>(longest, part.size());
  }
  // Overlapping windows are as long as the question leaves them.
  if (info.kind == ModelKind::kExtractive) longest = std::min<uint64_t>(longest, kLeastRoom);
  return CheckWindow(longest, frame_.size(), 0, info);
}

Task<absl::Status> AnswerJob::AnswerFromWindows() {
  answer_.usage.document_tokens = content().encoding.ids.size();
  answer_.usage.question_tokens = frame_.size();
  answer_.reading = reading_;
  const std::vector<TokenRange> windows = ChooseWindows();
  if (model_->info().kind == ModelKind::kExtractive) {
    LECTERN_CO_RETURN_IF_ERROR(co_await FindSpans(windows));
    Finish();
    co_return absl::OkStatus();
  }
  LECTERN_CO_RETURN_IF_ERROR(co_await ReadWindows(windows));
  bool retry_exact = false;
  LECTERN_CO_RETURN_IF_ERROR(CheckError(&retry_exact));
  if (retry_exact) {
    answer_.exactness.fell_back_to_exact = true;
    policy_ = AttentionPolicy::Exact();
    LECTERN_CO_RETURN_IF_ERROR(co_await ReadWindows(windows));
  }
  prefilled_ = clock_->Steady();
  stage_ = WorkStage::kDecode;
  LECTERN_CO_RETURN_IF_ERROR(co_await Decode());
  AddMemoryEvidence(windows);
  Finish();
  co_return absl::OkStatus();
}

// Parts of the document that the question is put to: all of it, or the likely chunks.
std::vector<TokenRange> AnswerJob::ChooseWindows() {
  const DocumentContent& text = content();
  const bool whole = reading_ == ReadingMode::kWhole;
  std::vector<TokenRange> parts = text.Parts(reading_);
  if (!whole) {
    std::vector<TokenRange> chosen;
    for (const size_t chunk : ChooseCandidates(text, options_.question)) {
      chosen.push_back(text.chunks[chunk]);
    }
    parts = std::move(chosen);
  }
  size_t considered = 0;
  for (const TokenRange& part : parts) considered += part.size();
  answer_.considered_ratio =
      static_cast<double>(considered) / static_cast<double>(text.encoding.ids.size());
  if (model_->info().kind != ModelKind::kExtractive) return parts;
  std::vector<TokenRange> windows;
  const size_t room = static_cast<size_t>(model_->info().context_length) - frame_.size();
  for (size_t first = 0; first < parts.size();) {
    // Chunks that are neighbours are one text.
    size_t last = first;
    while (last + 1 < parts.size() && parts[last].end == parts[last + 1].begin) ++last;
    for (const TokenRange& window :
         SlideWindows({parts[first].begin, parts[last].end}, room, room / kOverlapShare)) {
      windows.push_back(window);
    }
    first = last + 1;
  }
  return windows;
}

// The inputs of the encoder.
std::vector<std::vector<int32_t>> AnswerJob::WindowTokens(const std::vector<TokenRange>& windows) {
  std::vector<std::vector<int32_t>> inputs;
  uint64_t total = 0;
  const auto ids = content().encoding.ids.begin();
  for (const TokenRange& window : windows) {
    std::vector<int32_t>& input = inputs.emplace_back(frame_.before);
    input.insert(input.end(), ids + static_cast<std::ptrdiff_t>(window.begin),
                 ids + static_cast<std::ptrdiff_t>(window.end));
    input.insert(input.end(), frame_.after.begin(), frame_.after.end());
    total += input.size();
  }
  answer_.usage.tokens_computed += total;
  parts_.metrics->PrefillTokens(model_->info().name, PrefillSource::kComputed, total);
  return inputs;
}

// Encodes the windows into one memory, and begins the answer.
Task<absl::Status> AnswerJob::ReadWindows(const std::vector<TokenRange>& windows) {
  const std::vector<std::vector<int32_t>> inputs = WindowTokens(windows);
  memory_tokens_ = 0;
  for (const std::vector<int32_t>& input : inputs) {
    memory_tokens_ += static_cast<int64_t>(input.size());
  }
  memory_ = {};
  sequence_ = {};
  kept_mass_ = {};
  logits_.resize(static_cast<size_t>(model_->info().vocabulary));
  memory_mass_.assign(static_cast<size_t>(memory_tokens_), 0.0f);
  std::vector<uint64_t> sizes;
  sizes.push_back(static_cast<uint64_t>(memory_tokens_));
  sizes.push_back(uint64_t{options_.max_new_tokens} + 1);
  auto pages = co_await parts_.prefill->AllocatePages(*model_, std::move(sizes), Owner());
  if (!pages.ok()) co_return pages.status();
  memory_ = std::move((*pages)[0]);
  sequence_ = Sequence(std::move((*pages)[1]));
  std::vector<ForwardSlice> requests;
  int64_t position = 0;
  for (const std::vector<int32_t>& input : inputs) {
    requests.push_back({.tokens = input,
                        .position = position,
                        .pages = memory_.pages(),
                        .policy = &policy_,
                        .encode = true,
                        .kept_mass = &kept_mass_});
    position += static_cast<int64_t>(input.size());
  }
  const auto total = static_cast<uint64_t>(memory_tokens_);
  const Scheduler::Progress progress = [this, total](uint64_t done) {
    sink_->OnProgress(AskStage::kPrefillQuestion, done, total);
  };
  absl::Status computed = co_await parts_.scheduler->Run(*model_, requests, Owner(), &progress);
  if (!computed.ok()) co_return computed;
  const int32_t start = model_->decoder_start();
  const ForwardSlice begin{.tokens = {&start, 1},
                           .pages = sequence_.pages(),
                           .policy = &policy_,
                           .memory = memory_.pages(),
                           .memory_tokens = memory_tokens_,
                           .logits = logits_.data(),
                           .kept_mass = &kept_mass_,
                           .key_mass = memory_mass_.data()};
  computed = co_await parts_.scheduler->Run(*model_, {&begin, 1}, Owner());
  if (!computed.ok()) co_return computed;
  sequence_.Advance(1);
  co_return absl::OkStatus();
}

// What the answer's tokens attended to, as tokens of the document.
void AnswerJob::AddMemoryEvidence(const std::vector<TokenRange>& windows) {
  token_mass_.assign(content().encoding.ids.size(), 0.0f);
  size_t at = 0;
  for (const TokenRange& window : windows) {
    at += frame_.before.size();
    for (size_t token = window.begin; token < window.end; ++token) {
      token_mass_[token] += memory_mass_[at++];
    }
    at += frame_.after.size();
  }
  RankSentences();
}

Task<absl::Status> AnswerJob::FindSpans(const std::vector<TokenRange>& windows) {
  const std::vector<std::vector<int32_t>> inputs = WindowTokens(windows);
  std::vector<WindowScores> scores;
  for (size_t i = 0; i < windows.size(); ++i) {
    scores.push_back({.document = windows[i],
                      .document_begin = frame_.before.size(),
                      .begins = std::vector<float>(inputs[i].size()),
                      .ends = std::vector<float>(inputs[i].size())});
  }
  std::vector<ForwardSlice> requests;
  uint64_t total = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    requests.push_back({.tokens = inputs[i],
                        .policy = &policy_,
                        .encode = true,
                        .document_begin = frame_.before.size(),
                        .kept_mass = &kept_mass_,
                        .span_begins = scores[i].begins.data(),
                        .span_ends = scores[i].ends.data()});
    total += inputs[i].size();
  }
  const Scheduler::Progress progress = [this, total](uint64_t done) {
    sink_->OnProgress(AskStage::kSearch, done, total);
  };
  const absl::Status computed =
      co_await parts_.scheduler->Run(*model_, requests, Owner(), &progress);
  if (!computed.ok()) co_return computed;
  prefilled_ = clock_->Steady();
  bool retry_exact = false;
  LECTERN_CO_RETURN_IF_ERROR(CheckError(&retry_exact));
  if (retry_exact) {
    answer_.exactness.fell_back_to_exact = true;
    policy_ = AttentionPolicy::Exact();
    kept_mass_ = {};
    co_return co_await FindSpans(windows);
  }
  ShowSpans(scores);
  co_return absl::OkStatus();
}

// The best span is the answer and the first piece of evidence; others that do not overlap it
// follow.
void AnswerJob::ShowSpans(const std::vector<WindowScores>& scores) {
  const DocumentContent& text = content();
  std::vector<std::string_view> passages;
  for (const AnswerSpan& span : BestSpans(scores)) {
    const ByteRange bytes = SpanBytes(text, span.tokens);
    if (bytes.begin == bytes.end) continue;
    const bool known =
        std::any_of(evidence_.spans.begin(), evidence_.spans.end(), [&](const EvidenceSpan& other) {
          return bytes.begin < other.end_byte && other.begin_byte < bytes.end;
        });
    if (known) continue;
    if (evidence_.spans.empty()) {
      evidence_.strength = span.probability;
      answer_.usage.generated_tokens = span.tokens.size();
      unsent_tokens_ = static_cast<uint32_t>(span.tokens.size());
    }
    evidence_.spans.push_back({.begin_byte = bytes.begin,
                               .end_byte = bytes.end,
                               .text = text.text.substr(bytes.begin, bytes.end - bytes.begin),
                               .attention = span.probability,
                               .chunk = ChunkOf(text, bytes.begin)});
    for (const ByteRange& sentence : text.sentences) {
      if (sentence.begin > bytes.begin || sentence.end <= bytes.begin) continue;
      passages.push_back(
          std::string_view(text.text).substr(sentence.begin, sentence.end - sentence.begin));
    }
  }
  answer_.finish_reason = FinishReason::kStop;
  if (evidence_.spans.empty()) return;
  question_coverage_ = text.words->Coverage(
      options_.question, std::span(passages).first(std::min<size_t>(passages.size(), 3)));
  Show(evidence_.spans[0].text);
}

}  // namespace lectern
