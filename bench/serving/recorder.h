// Results of the calls of a phase. Times are seconds since the phase began, or milliseconds where
// the name says so.
#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "bench/serving/workload.h"

namespace lectern::bench {

using SteadyClock = std::chrono::steady_clock;

struct CallResult {
  Kind kind = Kind::kAsk;
  absl::Status status;
  SteadyClock::time_point start;
  SteadyClock::time_point first_text;  // equals start if none came
  SteadyClock::time_point end;
  uint64_t work_tokens = 0;  // prompt tokens computed and tokens generated
};

// Thread-safe.
class Recorder {
 public:
  Recorder(double warmup, double seconds) : warmup_(warmup), seconds_(seconds) {}

  void Sent() ABSL_LOCKS_EXCLUDED(mutex_);
  // `tokens` arrived `gap` after the previous text (zero for an answer's first text).
  void Text(uint32_t tokens, SteadyClock::duration gap) ABSL_LOCKS_EXCLUDED(mutex_);
  void Done(const CallResult& result) ABSL_LOCKS_EXCLUDED(mutex_);

  nlohmann::json Report() const ABSL_LOCKS_EXCLUDED(mutex_);
  double Now() const;

 private:
  bool Counts(double at) const { return at >= warmup_ && at < seconds_; }

  const double warmup_;
  const double seconds_;
  const SteadyClock::time_point begin_ = SteadyClock::now();
  mutable absl::Mutex mutex_;
  uint64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t work_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t good_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint64_t> outcomes_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> failures_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> first_text_ms_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> inter_token_ms_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> refusal_ms_ ABSL_GUARDED_BY(mutex_);
};

// True if the call was refused before any work was done: the queue or the memory is full, or the
// deadline cannot be met.
bool IsRefusal(const absl::Status& status);

}  // namespace lectern::bench
