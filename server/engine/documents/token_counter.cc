#include "server/engine/documents/token_counter.h"

#include <utility>

#include "base/error_details.h"
#include "server/engine/documents/document.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/engine/text/sentences.h"

namespace lectern {

TokenCount CountTokensOf(const Model& model, const std::string& text) {
  const Encoding encoding = model.tokenizer().Encode(text, /*parse_special=*/false);
  const size_t chunk_tokens = ChunkTokens(model.info());
  size_t chunks = 1;
  if (encoding.ids.size() > chunk_tokens) {
    chunks = CutIntoChunks(encoding, SplitSentences(text), chunk_tokens).size();
  }
  return {.model = model.info().name,
          .tokens = encoding.ids.size(),
          .reading = chunks > 1 ? ReadingMode::kChunks : ReadingMode::kWhole,
          .chunks = static_cast<uint32_t>(chunks),
          .chunk_tokens = chunk_tokens,
          .context_length = static_cast<uint64_t>(model.info().context_length)};
}

class TokenCounter::Counting : public Job {
 public:
  Counting(std::shared_ptr<const Model> model, std::string text, absl::Time deadline,
           CountDone done)
      : model(std::move(model)), text(std::move(text)), deadline(deadline), done(std::move(done)) {}

  void Cancel() override { cancelled = true; }

  const std::shared_ptr<const Model> model;
  const std::string text;
  const absl::Time deadline;
  const CountDone done;
  std::atomic<bool> cancelled = false;
};

TokenCounter::TokenCounter(const Clock* clock) : clock_(clock), thread_([this] { Loop(); }) {}

std::shared_ptr<Job> TokenCounter::Count(std::shared_ptr<const Model> model, std::string text,
                                         absl::Time deadline, CountDone done) {
  auto job =
      std::make_shared<Counting>(std::move(model), std::move(text), deadline, std::move(done));
  {
    MutexLock lock(&mutex_);
    if (!stopping_) {
      waiting_.push_back(job);
      return job;
    }
  }
  job->done(DrainingError());
  return job;
}

void TokenCounter::Stop() {
  std::deque<std::shared_ptr<Counting>> left;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    left.swap(waiting_);
  }
  if (thread_.joinable()) thread_.join();
  for (const std::shared_ptr<Counting>& job : left) job->done(DrainingError());
}

void TokenCounter::Loop() {
  while (true) {
    std::shared_ptr<Counting> job;
    {
      MutexLock lock(&mutex_);
      mutex_.Await([this]()
                       ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      job = std::move(waiting_.front());
      waiting_.pop_front();
    }
    Run(*job);
  }
}

void TokenCounter::Run(Counting& job) const {
  const auto check = [&]() -> absl::Status {
    if (job.cancelled) return absl::CancelledError("cancelled by the client");
    if (clock_->Now() < job.deadline) return absl::OkStatus();
    return MakeError(absl::StatusCode::kDeadlineExceeded, "the deadline passed (ingest)",
                     {.reason = "DEADLINE", .metadata = {{"stage", "ingest"}}});
  };
  absl::Status status = check();
  if (!status.ok()) return job.done(status);
  const TokenCount count = CountTokensOf(*job.model, job.text);
  status = check();
  if (!status.ok()) return job.done(status);
  job.done(count);
}

}  // namespace lectern
