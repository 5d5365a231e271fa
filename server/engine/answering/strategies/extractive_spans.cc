#include "server/engine/answering/strategies/extractive_spans.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "server/engine/answering/chunk_reading.h"
#include "server/engine/answering/strategies/encoder_windows.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

// A window must have room for this many tokens of the document, whatever the question.
constexpr uint64_t kLeastRoom = 32;
// Windows overlap by this share of their room, so that every answer is whole in one of them.
constexpr size_t kOverlapShare = 4;
// Spans whose sentences count towards the coverage of the question.
constexpr size_t kCoverageSpans = 3;

// The text of a span without the space around it: tokens of byte-level BPE begin with the space
// before a word.
ByteRange BytesOf(const DocumentContent& text, const TokenRange& tokens) {
  ByteRange bytes{text.encoding.begin[tokens.begin], text.encoding.end[tokens.end - 1]};
  const auto space = [&](uint64_t at) { return absl::ascii_isspace(text.text[at]); };
  while (bytes.begin < bytes.end && space(bytes.begin)) ++bytes.begin;
  while (bytes.begin < bytes.end && space(bytes.end - 1)) --bytes.end;
  return bytes;
}

}  // namespace

// Windows are cut to what the question leaves of the context length, so long parts always fit.
absl::Status ExtractiveSpans::CheckFits() const {
  return CheckContextLength(
      {.document = std::min(LongestPart(run_), kLeastRoom), .question = prompt_.size()},
      run_.model->info());
}

std::vector<TokenRange> ExtractiveSpans::Windows() {
  const std::vector<TokenRange> parts = ChooseParts(run_);
  std::vector<TokenRange> windows;
  const size_t room = static_cast<size_t>(run_.model->info().context_length) - prompt_.size();
  for (size_t first = 0; first < parts.size();) {
    // Adjacent chunks are one text.
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

Task<absl::Status> ExtractiveSpans::Prefill() {
  RecordDocument(run_, prompt_);
  const std::vector<TokenRange> windows = Windows();
  const std::vector<std::vector<int32_t>> inputs = EncoderInputs(run_, prompt_, windows);
  const size_t document_begin = prompt_.before.size();
  scores_.clear();
  for (size_t i = 0; i < windows.size(); ++i) {
    scores_.push_back({.document = windows[i],
                       .document_begin = document_begin,
                       .begins = std::vector<float>(inputs[i].size()),
                       .ends = std::vector<float>(inputs[i].size())});
  }
  std::vector<ForwardSlice> slices;
  uint64_t total = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    slices.push_back({.tokens = inputs[i],
                      .policy = &run_.policy,
                      .encode = true,
                      .document_begin = document_begin,
                      .kept_mass = &run_.kept_mass,
                      .span_begins = scores_[i].begins.data(),
                      .span_ends = scores_[i].ends.data()});
    total += inputs[i].size();
  }
  const Scheduler::Progress progress = [this, total](uint64_t done) {
    run_.sink->OnProgress(AskStage::kSearch, done, total);
  };
  co_return co_await run_.parts.scheduler->Run(*run_.model, slices, run_.owner(), &progress);
}

bool ExtractiveSpans::AddSpan(const AnswerSpan& span) {
  const DocumentContent& text = *run_.content;
  std::vector<EvidenceSpan>& spans = run_.evidence.spans;
  const ByteRange bytes = BytesOf(text, span.tokens);
  if (bytes.begin == bytes.end) return false;
  const bool known = std::any_of(spans.begin(), spans.end(), [&](const EvidenceSpan& other) {
    return bytes.begin < other.end_byte && other.begin_byte < bytes.end;
  });
  if (known) return false;
  spans.push_back({.begin_byte = bytes.begin,
                   .end_byte = bytes.end,
                   .text = text.text.substr(bytes.begin, bytes.end - bytes.begin),
                   .attention = span.probability,
                   .chunk = ChunkOf(text, bytes.begin)});
  return true;
}

std::optional<AnswerSpan> ExtractiveSpans::RankSpans(std::optional<double> null_score) {
  const DocumentContent& text = *run_.content;
  std::vector<EvidenceSpan>& spans = run_.evidence.spans;
  std::optional<AnswerSpan> best;
  std::vector<std::string_view> passages;  // the spans' sentences
  for (const AnswerSpan& span : BestSpans(scores_, null_score)) {
    if (!AddSpan(span)) continue;
    if (!best) best = span;
    const uint64_t begin = spans.back().begin_byte;
    for (const ByteRange& sentence : text.sentences) {
      if (sentence.begin > begin || sentence.end <= begin) continue;
      passages.push_back(
          std::string_view(text.text).substr(sentence.begin, sentence.end - sentence.begin));
    }
  }
  if (!best) return best;
  run_.evidence.strength = best->probability;
  run_.question_coverage = QuestionCoverage(
      *text.words, run_.options.question,
      std::span(passages).first(std::min<size_t>(passages.size(), kCoverageSpans)));
  return best;
}

// The best span is the answer and the first piece of evidence; others that do not overlap it
// follow. If there is no answer, they are still the evidence.
Task<absl::Status> ExtractiveSpans::Generate() {
  Answer& answer = run_.answer;
  const std::optional<double> threshold = run_.options.no_answer_threshold
                                              ? run_.options.no_answer_threshold
                                              : run_.model->info().no_answer_threshold;
  const double null_score = NullScore(scores_);
  const std::optional<AnswerSpan> best =
      RankSpans(threshold ? std::optional(null_score) : std::nullopt);
  if (best) answer.null_score_difference = null_score - best->score;
  if (threshold && (!best || *answer.null_score_difference > *threshold)) {
    answer.finish_reason = FinishReason::kNoAnswer;
    co_return absl::OkStatus();
  }
  answer.finish_reason = FinishReason::kStop;
  if (!best) co_return absl::OkStatus();
  run_.stream.AddTokens(best->tokens.size(), answer);
  run_.stream.Show(run_.evidence.spans[0].text, answer, *run_.sink);
  co_return absl::OkStatus();
}

}  // namespace lectern
