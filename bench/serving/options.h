// The command line of load_client.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lectern::bench {

struct LoadOptions {
  std::string server;
  double seconds = 10;   // arrivals end then
  double warmup = 0;     // what happens before is not counted
  double rate = 0;       // arrivals a second, open loop (Poisson); or
  int clients = 0;       // so many callers, each with one call after the other
  double probe = 0;      // seconds of single plain questions after the last arrival
  double deadline = 30;  // of every call, seconds
  uint64_t seed = 1;
  // Shares of all arrivals; the rest are plain questions.
  double uploads = 0;
  double cancels = 0;
  double slow_readers = 0;
  double crashes = 0;
  // Documents that are asked about (pinned), their length and that of uploads, roughly, in tokens.
  int documents = 4;
  int document_tokens = 1000;
  int upload_tokens = 300;
  int max_new_tokens = 24;
  double temperature = 0;
  int connections = 8;
  double leak = 0;         // instead of a load: AskMany streams opened a second and never closed
  std::string crash_with;  // instead of a load: one question about this document, then a crash
};

absl::StatusOr<LoadOptions> ParseLoadOptions(const std::vector<std::string>& arguments);

}  // namespace lectern::bench
