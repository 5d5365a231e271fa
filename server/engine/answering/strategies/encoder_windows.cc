#include "server/engine/answering/strategies/encoder_windows.h"

#include <algorithm>
#include <utility>

#include "server/engine/answering/chunk_reading.h"

namespace lectern {

std::vector<TokenRange> ChooseParts(AnswerRun& run) {
  const DocumentContent& text = *run.content;
  std::vector<TokenRange> parts;
  if (run.reading == ReadingMode::kWhole) {
    parts = text.Parts(run.reading);
  } else {
    for (const size_t chunk : ChooseCandidates(text, run.options.question)) {
      parts.push_back(text.chunks[chunk]);
    }
  }
  size_t considered = 0;
  for (const TokenRange& part : parts) considered += part.size();
  run.answer.considered_ratio =
      static_cast<double>(considered) / static_cast<double>(text.encoding.ids.size());
  return parts;
}

std::vector<std::vector<int32_t>> EncoderInputs(AnswerRun& run, const EncoderPrompt& prompt,
                                                const std::vector<TokenRange>& windows) {
  std::vector<std::vector<int32_t>> inputs;
  uint64_t total = 0;
  const auto ids = run.content->encoding.ids.begin();
  for (const TokenRange& window : windows) {
    std::vector<int32_t>& input = inputs.emplace_back(prompt.before);
    input.insert(input.end(), ids + static_cast<std::ptrdiff_t>(window.begin),
                 ids + static_cast<std::ptrdiff_t>(window.end));
    input.insert(input.end(), prompt.after.begin(), prompt.after.end());
    total += input.size();
  }
  run.CountComputed(total);
  return inputs;
}

uint64_t LongestPart(const AnswerRun& run) {
  uint64_t longest = 0;
  for (const TokenRange& part : run.content->Parts(run.reading)) {
    longest = std::max<uint64_t>(longest, part.size());
  }
  return longest;
}

void RecordDocument(AnswerRun& run, const EncoderPrompt& prompt) {
  run.answer.usage.document_tokens = run.content->encoding.ids.size();
  run.answer.usage.question_tokens = prompt.size();
}

}  // namespace lectern
