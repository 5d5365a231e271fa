// Counts the tokens of texts on its own thread, so that neither the engine's worker nor the
// caller waits for a long text.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/engine/api.h"
#include "server/model/model.h"

namespace lectern {

// How `text` would be read by `model` under ReadingMode::kAuto. Takes as long as tokenising does.
TokenCount CountTokensOf(const Model& model, const std::string& text);

// Thread-safe. Texts are counted in the order of the calls.
class TokenCounter {
 public:
  explicit TokenCounter(const Clock* clock);
  ~TokenCounter() { Stop(); }
  TokenCounter(const TokenCounter&) = delete;
  TokenCounter& operator=(const TokenCounter&) = delete;

  // Calls `done` once, from the counter's thread or from Stop(). CANCELLED if the job was cancelled
  // and DEADLINE_EXCEEDED if `deadline` passed, both checked before and after tokenising.
  std::shared_ptr<Job> Count(std::shared_ptr<const Model> model, std::string text,
                             absl::Time deadline, CountDone done);

  // Ends waiting counts with UNAVAILABLE (DRAINING) and joins the thread. Later counts end so too.
  void Stop();

 private:
  class Counting;

  void Loop();
  void Run(Counting& job) const;

  const Clock* const clock_;
  Mutex mutex_;
  std::deque<std::shared_ptr<Counting>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lectern
