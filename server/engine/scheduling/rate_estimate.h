// Estimates how long work will take from the steps so far: seconds per prefilled token, per decoded
// token (its share of a batch), and tokens per answer. The estimates are exponential averages.
#pragma once

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace lectern {

// Thread-safe.
class RateEstimate {
 public:
  // Records a step with these numbers of tokens, which took `duration`.
  void Step(uint64_t prefill_tokens, uint64_t decode_tokens, absl::Duration duration)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Answered(uint64_t generated_tokens) ABSL_LOCKS_EXCLUDED(mutex_);

  // The expected number of tokens of an answer, at most `limit`.
  uint64_t AnswerTokens(uint64_t limit) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The expected time for these tokens; zero as long as nothing is known.
  absl::Duration Of(uint64_t prefill_tokens, uint64_t decode_tokens) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  double prefill_seconds_ ABSL_GUARDED_BY(mutex_) = 0;  // per token; 0 = unknown
  double decode_seconds_ ABSL_GUARDED_BY(mutex_) = 0;
  double answer_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lectern
