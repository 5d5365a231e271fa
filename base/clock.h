// Time as an interface, so that tests move it by hand.
#pragma once

#include "absl/time/time.h"

namespace lectern {

// Thread-safe. Now() is wall time (for timestamps shown to people); Steady() never goes back and is
// what durations, deadlines inside the process and metrics are measured with.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  virtual absl::Duration Steady() const = 0;

  // The machine's clock; lives for ever.
  static const Clock& Real();
};

}  // namespace lectern
