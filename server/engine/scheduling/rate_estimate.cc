#include "server/engine/scheduling/rate_estimate.h"

#include <algorithm>
#include <cmath>

namespace lectern {
namespace {

// The weight of a new sample, with which about the last ten count.
constexpr double kNew = 0.1;

void Learn(double sample, double& average) {
  average = average == 0 ? sample : (1 - kNew) * average + kNew * sample;
}

}  // namespace

void RateEstimate::Step(uint64_t prefill_tokens, uint64_t decode_tokens, absl::Duration duration) {
  const double seconds = absl::ToDoubleSeconds(duration);
  MutexLock lock(&mutex_);
  // A mixed step measures neither kind alone, so the known cost of prefill is subtracted.
  if (decode_tokens == 0) {
    if (prefill_tokens > 0) Learn(seconds / static_cast<double>(prefill_tokens), prefill_seconds_);
    return;
  }
  const double prefill = prefill_seconds_ * static_cast<double>(prefill_tokens);
  if (prefill_tokens > 0 && prefill >= seconds) return;
  Learn((seconds - prefill) / static_cast<double>(decode_tokens), decode_seconds_);
}

void RateEstimate::Answered(uint64_t generated_tokens) {
  MutexLock lock(&mutex_);
  Learn(std::max(1.0, static_cast<double>(generated_tokens)), answer_tokens_);
}

uint64_t RateEstimate::AnswerTokens(uint64_t limit) const {
  MutexLock lock(&mutex_);
  if (answer_tokens_ == 0) return limit;
  return std::min(limit, static_cast<uint64_t>(std::ceil(answer_tokens_)));
}

absl::Duration RateEstimate::Of(uint64_t prefill_tokens, uint64_t decode_tokens) const {
  MutexLock lock(&mutex_);
  return absl::Seconds(prefill_seconds_ * static_cast<double>(prefill_tokens) +
                       decode_seconds_ * static_cast<double>(decode_tokens));
}

}  // namespace lectern
