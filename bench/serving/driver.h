// Runs one phase of load: arrivals, their calls and results.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "bench/serving/calls.h"
#include "bench/serving/options.h"
#include "bench/serving/recorder.h"
#include "bench/serving/workload.h"

namespace lectern::bench {

// A new connection, not shared with the rest of the process.
std::unique_ptr<Stub> NewConnection(const std::string& server, int number);

class Driver {
 public:
  // `program` is this executable, which is started for each crashing caller.
  Driver(const LoadOptions& options, std::string program);

  // Uploads the documents that are asked about.
  absl::Status Prepare();
  nlohmann::json Run();

 private:
  void OpenLoop();
  void ClosedLoop();
  // Starts the next arrival; with `again`, another one whenever it is done.
  void Start(bool again) ABSL_LOCKS_EXCLUDED(mutex_);
  void Crash(const std::string& document);
  void WaitUntilDone() ABSL_LOCKS_EXCLUDED(mutex_);
  // [[seconds since the last arrival, milliseconds to the first text, or -1 if refused], ...]
  nlohmann::json Probe();

  const LoadOptions options_;
  const std::string program_;
  std::vector<std::unique_ptr<Stub>> stubs_;
  std::vector<std::string> documents_;
  std::unique_ptr<Recorder> recorder_;
  absl::Mutex mutex_;
  Workload workload_ ABSL_GUARDED_BY(mutex_);
  size_t next_stub_ ABSL_GUARDED_BY(mutex_) = 0;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Asks about `document` and ends this process at the first text, as a crash would. Returns if no
// text comes.
void AskAndCrash(const LoadOptions& options);

// Opens `options.leak` AskMany streams per second for `options.seconds`, holds all of them, prints
// "held" and sleeps until the process is ended.
void HoldStreams(const LoadOptions& options);

}  // namespace lectern::bench
