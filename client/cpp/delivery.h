// Passes on the events of an answer over several attempts, so that each piece of text is seen once.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "lectern/client.h"

namespace lectern {

// Repeating a request gives the same answer (greedy decoding, or a fixed seed). An answer that
// broke off is requested again; the text that was already delivered is compared byte by byte and
// left out. Not thread-safe.
class Delivery {
 public:
  explicit Delivery(AskCallback on_event) : on_event_(std::move(on_event)) {}

  // Begins the next attempt.
  void Restart() { position_ = 0; }

  // Passes on the part of `event` that is new. ABORTED (RESUME_DIFFERS) if the answer differs from
  // the text already delivered.
  absl::Status Pass(const lectern::v1::AskResponse& event);

 private:
  AskCallback on_event_;
  std::string delivered_;
  size_t position_ = 0;  // this attempt's position in the answer's text
};

}  // namespace lectern
