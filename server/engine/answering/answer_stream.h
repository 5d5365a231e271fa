// Streams the text of an answer to its sink.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "base/clock.h"
#include "server/engine/api.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

// One per answer; used by the worker alone. Sink and answer must outlive the last call.
class AnswerStream {
 public:
  // `arrival`: when the question came, on the steady clock.
  AnswerStream(const Clock* clock, ServerMetrics* metrics, absl::Duration arrival)
      : clock_(clock), metrics_(metrics), arrival_(arrival) {}

  // Counts tokens whose text comes with the next Show(), or later.
  void AddTokens(uint64_t count, Answer& answer);
  // Appends text to the answer and sends it to the sink. Empty text is not sent.
  void Show(std::string_view text, Answer& answer, AskSink& sink);

  // From arrival to the first text; zero if there was none.
  absl::Duration first_text() const { return first_text_; }

 private:
  const Clock* const clock_;
  ServerMetrics* const metrics_;
  const absl::Duration arrival_;
  absl::Duration first_text_;
  uint32_t unsent_tokens_ = 0;
};

}  // namespace lectern
