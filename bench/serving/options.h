// The command line of load_client.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lectern::bench {

// The flags of load_client; LoadHelpText() describes them.
struct LoadOptions {
  std::string server;
  double seconds = 10;
  double warmup = 0;
  double rate = 0;
  int clients = 0;
  double probe = 0;
  double deadline = 30;
  uint64_t seed = 1;
  // Shares of all arrivals; the rest are plain questions.
  double uploads = 0;
  double cancels = 0;
  double slow_readers = 0;
  double crashes = 0;
  int documents = 4;
  int document_tokens = 1000;
  int upload_tokens = 300;
  int max_new_tokens = 24;
  double temperature = 0;
  int connections = 8;
  double leak = 0;
  std::string crash_with;
  bool help = false;
};

// INVALID_ARGUMENT names the flag, its value and what is allowed.
absl::StatusOr<LoadOptions> ParseLoadOptions(const std::vector<std::string>& arguments);

std::string LoadHelpText();

}  // namespace lectern::bench
