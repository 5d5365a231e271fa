// A document that several jobs want is read by one of them, and by the next if that one ends
// without a result.
#include "server/engine/documents/single_flight.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/engine/engine_fixture.h"

namespace lectern {
namespace {

// Wants the result of `key`. With the turn, it waits until it is released and then has the given
// outcome.
class WantingJob : public QueuedJob {
 public:
  struct World {
    Scheduler* scheduler;
    SingleFlight* flights;
    bool has_result = false;
    absl::Status find_error;
  };
  WantingJob(World* world, SingleFlight::Key key, const Clock* clock)
      : QueuedJob({.is_upload = false, .priority = Priority::kInteractive, .tenant = "a"},
                  absl::InfiniteFuture(), clock),
        world_(world),
        key_(std::move(key)) {}

  void OnWaiting(uint32_t, std::optional<absl::Duration>) override {}
  Task<Done> Run() override {
    status = co_await Want();
    over = true;
    co_return Done{};
  }
  void End(const absl::Status& given) override {
    status = given;
    over = true;
  }

  bool has_turn = false;
  bool succeeds = true;
  bool released = false;
  bool over = false;
  absl::Status status;

 private:
  Task<absl::Status> Want() {
    std::function<absl::StatusOr<bool>()> find = [this]() -> absl::StatusOr<bool> {
      if (!world_->find_error.ok()) return world_->find_error;
      return world_->has_result;
    };
    const StepOwner owner{this, WorkStage::kPrefill};
    const auto turn = co_await world_->flights->FindOrBegin(key_, std::move(find), owner);
    if (!turn.ok()) co_return turn.status();
    has_turn = static_cast<bool>(*turn);
    if (!has_turn) co_return absl::OkStatus();
    std::function<bool()> go_on = [this] { return released; };
    const absl::Status waited = co_await world_->scheduler->WaitUntil(std::move(go_on), owner);
    if (!waited.ok()) co_return waited;
    if (!succeeds) co_return absl::InternalError("failed");
    world_->has_result = true;
    co_return absl::OkStatus();
  }

  World* const world_;
  const SingleFlight::Key key_;
};

class SingleFlightTest : public testing::Test {
 protected:
  std::shared_ptr<WantingJob> Push(const SingleFlight::Key& key = {.document_id = "d"}) {
    auto job = std::make_shared<WantingJob>(&world_, key, &clock_);
    EXPECT_TRUE(queue_->Push(job).ok());
    return job;
  }
  void RunAll() {
    for (int i = 0; i < 10; ++i) scheduler_.RunOnce();
  }

  FakeClock clock_;
  ServerMetrics metrics_{{"fake"}};
  std::shared_ptr<JobQueue> queue_ =
      std::make_shared<JobQueue>(QueueLimits{.running_questions = 8}, &clock_, &metrics_);
  Scheduler scheduler_{&clock_, &metrics_, queue_, 8};
  SingleFlight flights_{&scheduler_};
  WantingJob::World world_{&scheduler_, &flights_};
};

TEST_F(SingleFlightTest, OneComputesAndTheOthersFindIt) {
  const auto first = Push(), second = Push(), third = Push();
  RunAll();
  EXPECT_TRUE(first->has_turn);
  EXPECT_FALSE(second->over || third->over);
  first->released = true;
  RunAll();
  for (const auto& job : {first, second, third}) {
    EXPECT_TRUE(job->over);
    EXPECT_TRUE(job->status.ok()) << job->status;
  }
  EXPECT_FALSE(second->has_turn || third->has_turn);
}

TEST_F(SingleFlightTest, OtherKeysDoNotWait) {
  const SingleFlight::Key key{.document_id = "d"};
  SingleFlight::Key other_document = key, other_reading = key, other_policy = key;
  other_document.document_id = "e";
  other_reading.reading = ReadingMode::kChunks;
  other_policy.policy.top_k = 7;
  std::vector<std::shared_ptr<WantingJob>> jobs;
  for (const auto& one : {key, other_document, other_reading, other_policy}) {
    jobs.push_back(Push(one));
  }
  RunAll();
  for (const auto& job : jobs) {
    EXPECT_TRUE(job->has_turn);
    job->released = true;
  }
  RunAll();
  for (const auto& job : jobs) EXPECT_TRUE(job->over);
}

TEST_F(SingleFlightTest, TheNextTakesOverWhenOneFailsOrIsCancelled) {
  const auto first = Push(), second = Push(), third = Push(), fourth = Push();
  RunAll();
  ASSERT_TRUE(first->has_turn);
  first->succeeds = false;
  first->released = true;
  RunAll();
  EXPECT_TRUE(absl::IsInternal(first->status));
  EXPECT_TRUE(second->has_turn);
  EXPECT_FALSE(third->has_turn || third->over);
  second->Cancel();
  RunAll();
  EXPECT_TRUE(absl::IsCancelled(second->status));
  EXPECT_TRUE(third->has_turn);
  third->released = true;
  RunAll();
  EXPECT_TRUE(third->status.ok());
  EXPECT_TRUE(fourth->over && !fourth->has_turn && fourth->status.ok());
}

TEST_F(SingleFlightTest, OneThatWaitsCanBeCancelled) {
  const auto first = Push(), second = Push();
  RunAll();
  second->Cancel();
  RunAll();
  EXPECT_TRUE(absl::IsCancelled(second->status));
  EXPECT_FALSE(first->over);
  first->released = true;
  RunAll();
  EXPECT_TRUE(first->status.ok());
}

TEST_F(SingleFlightTest, AnErrorOfTheSearchIsItsOwn) {
  world_.find_error = absl::ResourceExhaustedError("quota");
  const auto refused = Push();
  RunAll();
  EXPECT_EQ(refused->status, world_.find_error);
  world_.find_error = absl::OkStatus();
  const auto next = Push();
  RunAll();
  EXPECT_TRUE(next->has_turn) << "the one that was refused holds nothing";
  next->released = true;
  RunAll();
}

// Through the engine: questions about a stored document under a policy it was not read under, and
// uploads.
class SharedReadingTest : public EngineTest {
 protected:
  void SetUp() override {
    Start();
    document_ = Upload(Text(5));
    computed_before_ = model_->tokens_computed();
    exact_.document_id = document_.id;
    exact_.question = "Q?";
    exact_.attention.exact = true;
  }
  uint64_t prompt_tokens() const { return document_.tokens + 3; }  // with the prefix

  DocumentInfo document_;
  int64_t computed_before_ = 0;
  AskOptions exact_;
};

TEST_F(SharedReadingTest, TwoQuestionsAndAnUploadReadItOnce) {
  model_->gate().Close();
  const Running first = StartAsk(exact_);
  const Running second = StartAsk(exact_);
  UploadOptions upload;
  upload.attention.exact = true;
  const Arriving again = StartUpload(Text(5), upload);
  model_->gate().Open();
  EXPECT_EQ(first.sink->TheAnswer().usage.tokens_reused, 0u);
  EXPECT_EQ(second.sink->TheAnswer().usage.tokens_reused, prompt_tokens());
  EXPECT_EQ(again.sink->Document().id, document_.id);
  const Usage& usage = first.sink->TheAnswer().usage;
  const auto own = static_cast<int64_t>(usage.question_tokens + usage.generated_tokens);
  EXPECT_EQ(model_->tokens_computed() - computed_before_,
            static_cast<int64_t>(prompt_tokens()) + 2 * own);
}

TEST_F(SharedReadingTest, TheNextQuestionReadsItWhenTheFirstIsCancelled) {
  model_->gate().Close();
  const Running first = StartAsk(exact_);
  model_->gate().WaitForVisitor();
  const Running second = StartAsk(exact_);
  model_->gate().LetOnePass();
  model_->gate().WaitForVisitor();  // the second waits for the first by now
  first.job->Cancel();
  model_->gate().Open();
  EXPECT_TRUE(absl::IsCancelled(first.sink->Status()));
  EXPECT_EQ(second.sink->TheAnswer().usage.tokens_reused, 0u);
  EXPECT_EQ(Ask(exact_).usage.tokens_reused, prompt_tokens());
}

TEST_F(SharedReadingTest, TheNextQuestionReadsItWhenTheFirstFails) {
  model_->gate().Close();
  const Running first = StartAsk(exact_);
  model_->gate().WaitForVisitor();
  const Running second = StartAsk(exact_);
  model_->gate().LetOnePass();
  model_->gate().WaitForVisitor();
  model_->FailNext(absl::InternalError("kernel"));
  model_->gate().Open();
  EXPECT_TRUE(absl::IsInternal(first.sink->Status()));
  EXPECT_EQ(second.sink->TheAnswer().usage.tokens_reused, 0u);
  EXPECT_EQ(Ask(exact_).usage.tokens_reused, prompt_tokens());
}

TEST_F(SharedReadingTest, TheNextUploadReadsItWhenTheFirstIsCancelled) {
  model_->gate().Close();
  const Arriving first = StartUpload(Text(9));
  model_->gate().WaitForVisitor();
  const Arriving second = StartUpload(Text(9));
  model_->gate().LetOnePass();
  model_->gate().WaitForVisitor();
  first.job->Cancel();
  model_->gate().Open();
  EXPECT_TRUE(absl::IsCancelled(first.sink->Status()));
  EXPECT_EQ(second.sink->Document().tokens, Text(9).size());
  EXPECT_EQ(engine_->status().documents, 2u);
}

}  // namespace
}  // namespace lectern
