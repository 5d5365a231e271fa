#include "server/engine/answering/answer_run.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "server/engine/answering/chunk_reading.h"

namespace lectern {
namespace {

// Sentences whose words count towards the coverage of the question.
constexpr size_t kCoverageSentences = 3;

}  // namespace

void AnswerRun::CountComputed(uint64_t tokens) {
  answer.usage.tokens_computed += tokens;
  parts.metrics->PrefillTokens(model->info().name, PrefillSource::kComputed, tokens);
}

void AnswerRun::RankSentences(std::span<const float> token_mass) {
  const DocumentContent& text = *content;
  const uint32_t wanted = std::max(options.max_evidence_spans, kSecondReadingSentences);
  evidence = RankEvidence(text.text, text.encoding, text.sentences, token_mass, wanted);
  std::vector<std::string_view> best;
  for (const EvidenceSpan& span : evidence.spans) {
    if (best.size() < kCoverageSentences) best.push_back(span.text);
  }
  question_coverage = QuestionCoverage(*text.words, options.question, best);
  if (reading != ReadingMode::kChunks) return;
  for (EvidenceSpan& span : evidence.spans) span.chunk = ChunkOf(text, span.begin_byte);
}

}  // namespace lectern
