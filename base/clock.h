// Time as an interface, so that tests can set it.
#pragma once

#include "absl/time/time.h"

namespace lectern {

// Thread-safe. Now() is wall time (for timestamps shown to people); Steady() never goes back
// and measures durations, deadlines inside the process and metrics.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  virtual absl::Duration Steady() const = 0;

  // The machine's clock; lives until the program ends.
  static const Clock& Real();
};

}  // namespace lectern
