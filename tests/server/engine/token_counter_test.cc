// Counting tokens: what the engine reports about texts and documents, and how a count ends.
#include "server/engine/documents/token_counter.h"

#include "tests/server/engine/engine_fixture.h"

namespace lectern {
namespace {

class CountTokensTest : public EngineTest {
 protected:
  struct Result {
    absl::StatusOr<TokenCount> Wait() {
      MutexLock lock(&mutex);
      mutex.Await([this] { return ended; });
      return count;
    }
    Mutex mutex;
    bool ended = false;
    absl::StatusOr<TokenCount> count;
  };

  std::shared_ptr<Job> Count(const CountOptions& options, const std::shared_ptr<Result>& result) {
    auto job = engine_->CountTokens(options, [result](const absl::StatusOr<TokenCount>& count) {
      MutexLock lock(&result->mutex);
      EXPECT_FALSE(result->ended) << "a count ends once";
      result->ended = true;
      result->count = count;
    });
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *job : nullptr;
  }
  TokenCount Count(const CountOptions& options) {
    auto result = std::make_shared<Result>();
    Count(options, result);
    const auto count = result->Wait();
    EXPECT_TRUE(count.ok()) << count.status();
    return count.value_or(TokenCount{});
  }
  absl::Status Refused(const CountOptions& options) {
    const auto job = engine_->CountTokens(
        options, [](const absl::StatusOr<TokenCount>&) { ADD_FAILURE() << "a refused count"; });
    return job.status();
  }
};

TEST_F(CountTokensTest, ATextIsCountedAsItsUploadReadsIt) {
  options_.kv_bytes = 64 << 20;
  Start();
  for (const std::string& text : {Text(1), Text(300)}) {
    const TokenCount count = Count({.text = text});
    EXPECT_EQ(engine_->status().documents, 0u) << "nothing is stored";
    const DocumentInfo document = Upload(text);
    const TokenCount stored = Count({.document_id = document.id});
    for (const TokenCount& each : {count, stored}) {
      EXPECT_EQ(each.model, "fake");
      EXPECT_EQ(each.tokens, document.tokens);
      EXPECT_EQ(each.reading, document.reading);
      EXPECT_EQ(each.chunks, document.chunks);
      EXPECT_EQ(each.context_length, static_cast<uint64_t>(model_->info().context_length));
      EXPECT_EQ(each.reading == ReadingMode::kWhole, each.tokens <= each.chunk_tokens);
    }
    EXPECT_TRUE(engine_->DeleteDocument(document.id, "").ok());
  }
  EXPECT_GT(Count({.text = Text(300)}).chunks, 1u);
}

TEST_F(CountTokensTest, BadRequestsAreRefused) {
  options_.limits.max_document_bytes = 10;
  options_.upload_bytes = 5;
  Start();
  EXPECT_EQ(ReasonOf(Refused({})), "INVALID_REQUEST");
  EXPECT_EQ(ReasonOf(Refused({.document_id = "doc-1", .text = "a"})), "INVALID_REQUEST");
  EXPECT_EQ(ReasonOf(Refused({.text = ""})), "INVALID_REQUEST");
  EXPECT_EQ(ReasonOf(Refused({.text = "\xff"})), "INVALID_REQUEST");
  EXPECT_EQ(ReasonOf(Refused({.text = "eleven byte"})), "INVALID_REQUEST");
  EXPECT_EQ(ReasonOf(Refused({.text = "too big"})), "UPLOAD_BUFFER");
  EXPECT_EQ(ReasonOf(Refused({.text = "a", .model = "other"})), "MODEL_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Refused({.document_id = "doc-1"})), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(Count({.text = "fits"}).tokens, 4u);
  EXPECT_EQ(Count({.text = "again"}).tokens, 5u) << "the buffer is given back";
}

TEST_F(CountTokensTest, ADocumentOfAnotherOwnerIsNotFound) {
  Start();
  const DocumentInfo document = Upload(Text(1), {.owner = "one"});
  EXPECT_EQ(ReasonOf(Refused({.document_id = document.id, .owner = "two"})), "DOCUMENT_NOT_FOUND");
  EXPECT_EQ(Count({.document_id = document.id, .owner = "one"}).tokens, document.tokens);
  EXPECT_EQ(ReasonOf(Refused({.document_id = document.id, .model = "other", .owner = "one"})),
            "MODEL_NOT_FOUND");
}

TEST_F(CountTokensTest, ACancelledCountAndOnePastItsDeadlineEnd) {
  Start();
  model_->tokenizer().gate().Close();
  auto running = std::make_shared<Result>(), cancelled = std::make_shared<Result>(),
       late = std::make_shared<Result>();
  const auto job = Count({.text = "running"}, running);
  model_->tokenizer().gate().WaitForVisitor();
  Count({.text = "waiting"}, cancelled)->Cancel();
  Count({.text = "late", .deadline = clock_.Now()}, late);
  job->Cancel();
  model_->tokenizer().gate().Open();
  EXPECT_TRUE(absl::IsCancelled(running->Wait().status()));
  EXPECT_TRUE(absl::IsCancelled(cancelled->Wait().status()));
  EXPECT_EQ(ReasonOf(late->Wait().status()), "DEADLINE");
}

TEST_F(CountTokensTest, StopEndsWaitingCounts) {
  Start();
  model_->tokenizer().gate().Close();
  auto running = std::make_shared<Result>(), waiting = std::make_shared<Result>();
  Count({.text = "running"}, running);
  model_->tokenizer().gate().WaitForVisitor();
  Count({.text = "waiting"}, waiting);
  std::thread stop([this] { engine_->Stop(); });
  while (ReasonOf(Refused({.document_id = "none"})) != "DRAINING") std::this_thread::yield();
  // The waiting count ends only after the running one, which the gate holds.
  model_->tokenizer().gate().Open();
  stop.join();
  EXPECT_TRUE(running->Wait().ok());
  const auto ended = waiting->Wait();
  EXPECT_TRUE(ended.ok() || ReasonOf(ended.status()) == "DRAINING");
}

}  // namespace
}  // namespace lectern
