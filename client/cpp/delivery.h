// Passes the events of an answer on, over several attempts, so that every piece of text is seen
// once.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <functional>
#include <string>

#include "absl/status/status.h"

namespace lectern {

using AskCallback = std::function<void(const lectern::v1::AskResponse&)>;

// The same request gives the same answer (greedy or by seed), so that an answer that broke off is
// asked for again and what was delivered already is left out, after comparing it byte by byte.
// Not thread-safe.
class Delivery {
 public:
  explicit Delivery(AskCallback on_event) : on_event_(std::move(on_event)) {}

  // The answer begins again.
  void Restart() { position_ = 0; }

  // Passes on what is new in `event`. ABORTED (RESUME_DIFFERS) when the answer is not the one that
  // was begun.
  absl::Status Pass(const lectern::v1::AskResponse& event);

 private:
  AskCallback on_event_;
  std::string delivered_;
  size_t position_ = 0;  // of this attempt, in the answer's text
};

}  // namespace lectern
