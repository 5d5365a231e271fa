#include "server/engine/answering/decode_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/engine/answering/sampler.h"
#include "server/engine/answering/stop_strings.h"

namespace lectern {
namespace {

// The stop strings of a request, and the model's own.
std::vector<std::string> StopsOf(std::vector<std::string> stops, const std::string& end_text) {
  if (!end_text.empty()) stops.push_back(end_text);
  return stops;
}

}  // namespace

Task<absl::Status> DecodeAnswer(AnswerRun& run, Sequence& sequence, std::vector<float>& logits,
                                ForwardSlice step) {
  const Tokenizer& tokenizer = run.model->tokenizer();
  const Clock& clock = *run.parts.clock;
  const uint64_t max_new_tokens = run.options.max_new_tokens;
  Answer& answer = run.answer;
  const auto decoder = tokenizer.NewStreamDecoder();
  Sampler sampler(run.options.sampling);
  const ModelInfo& info = run.model->info();
  StopStrings stops(StopsOf(run.options.stop, info.end_text));
  const auto show = [&](const std::string& text) {
    run.stream.Show(stops.Append(text), answer, *run.sink);
  };
  absl::Duration last_token = clock.Steady();
  answer.finish_reason = FinishReason::kLength;
  while (answer.usage.generated_tokens < max_new_tokens) {
    const int32_t token = sampler.Next(logits);
    if (std::ranges::binary_search(info.end_ids, token)) {
      answer.finish_reason = FinishReason::kStop;
      break;
    }
    run.stream.AddTokens(1, answer);
    show(decoder->Append(token));
    if (stops.stopped()) break;
    if (answer.usage.generated_tokens == max_new_tokens) break;
    step.tokens = {&token, 1};
    step.position = sequence.position();
    step.pages = sequence.pages();
    step.policy = &run.policy;
    step.logits = logits.data();
    step.kept_mass = &run.kept_mass;
    const absl::Status computed =
        co_await run.parts.scheduler->Run(*run.model, {&step, 1}, run.owner());
    if (!computed.ok()) co_return computed;
    sequence.Advance(1);
    const absl::Duration now = clock.Steady();
    run.parts.metrics->InterToken(answer.model, now - std::exchange(last_token, now));
  }
  if (!stops.stopped()) show(decoder->Finish());
  if (!stops.stopped()) run.stream.Show(stops.Finish(), answer, *run.sink);
  if (stops.stopped()) {
    const bool asked_for =
        std::ranges::find(run.options.stop, stops.found()) != run.options.stop.end();
    answer.finish_reason = asked_for ? FinishReason::kStopString : FinishReason::kStop;
    if (asked_for) answer.stop_string = stops.found();
  }
  co_return absl::OkStatus();
}

}  // namespace lectern
