// Draws the arrivals and their times from a seed, so that runs are reproducible.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "bench/serving/options.h"

namespace lectern::bench {

enum class Kind {
  kAsk,     // a plain question
  kUpload,  // a new document
  kCancel,  // a question that is cancelled after some events
  kSlow,    // a question whose reader pauses before every message
  kCrash,   // a question from a process that crashes during the answer
};

// A text of about `tokens` tokens, different for each number.
std::string DocumentText(uint64_t number, int tokens);

// Not thread-safe.
class Workload {
 public:
  explicit Workload(const LoadOptions& options);

  Kind NextKind();
  double NextGap();                // seconds between two arrivals of the open loop
  std::string NextUpload();        // a new text every time, in all runs
  uint64_t Below(uint64_t bound);  // uniform
  lectern::v1::AskRequest NextAsk(const std::vector<std::string>& documents);

 private:
  const LoadOptions options_;
  std::mt19937_64 random_;
  uint64_t uploads_ = 0;
};

}  // namespace lectern::bench
