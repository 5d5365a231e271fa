// Tests which jobs may wait, which is next, and which are refused: JobQueue, FairQueue,
// RateEstimate.

#include "server/engine/scheduling/job_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/error_details.h"
#include "server/engine/scheduling/fair_queue.h"
#include "server/engine/scheduling/rate_estimate.h"
#include "tests/testing/fake_clock.h"

namespace lectern {
namespace {

using testing::ElementsAre;

TEST(FairQueueTest, EachIsChargedForItsOwnWork) {
  FairQueue shares;
  shares.Arrive("a");
  shares.Arrive("b");
  shares.Charge("a", 30);
  shares.Charge("b", 10);
  shares.Charge("a", 5);
  shares.Charge("nobody", 100);
  EXPECT_EQ(shares.CounterOf("a"), 35);
  EXPECT_EQ(shares.CounterOf("b"), 10);
  EXPECT_EQ(shares.tenants(), 2u);
}

TEST(FairQueueTest, ANewcomerIsOwedNothingForThePast) {
  FairQueue shares;
  shares.Arrive("a");
  shares.Arrive("b");
  shares.Charge("a", 100);
  shares.Charge("b", 40);
  shares.Arrive("c");
  EXPECT_EQ(shares.CounterOf("c"), 40) << "the least of those who are there";
}

TEST(FairQueueTest, BeingAwaySavesNothingUp) {
  FairQueue shares;
  shares.Arrive("a");
  shares.Arrive("b");
  shares.Leave("b");
  shares.Charge("a", 100);
  shares.Arrive("b");
  EXPECT_EQ(shares.CounterOf("b"), 100);
}

// Otherwise a tenant with one large job at a time would start afresh with each of them.
TEST(FairQueueTest, BeingAwayForgivesNothing) {
  FairQueue shares;
  shares.Arrive("a");
  shares.Arrive("b");
  shares.Charge("a", 100);
  shares.Charge("b", 10);
  shares.Leave("a");
  shares.Charge("b", 20);
  shares.Arrive("a");
  EXPECT_EQ(shares.CounterOf("a"), 100);
  shares.Leave("a");
  shares.Charge("b", 90);
  shares.Arrive("a");
  EXPECT_EQ(shares.CounterOf("a"), 120) << "the others have caught up";
}

TEST(FairQueueTest, AnEmptyServerGoesOnWhereItEnded) {
  FairQueue shares;
  shares.Arrive("a");
  shares.Charge("a", 100);
  shares.Leave("a");
  EXPECT_EQ(shares.tenants(), 0u);
  shares.Arrive("b");
  shares.Arrive("a");
  EXPECT_EQ(shares.CounterOf("b"), 100);
  EXPECT_EQ(shares.CounterOf("a"), 100);
}

TEST(FairQueueTest, ATenantIsThereUntilItsLastJobLeaves) {
  FairQueue shares;
  shares.Arrive("a");
  shares.Arrive("a");
  shares.Charge("a", 7);
  shares.Leave("a");
  EXPECT_EQ(shares.tenants(), 1u);
  EXPECT_EQ(shares.CounterOf("a"), 7);
  shares.Leave("a");
  shares.Leave("a");
  EXPECT_EQ(shares.tenants(), 0u);
  EXPECT_EQ(shares.CounterOf("a"), 0);
}

// Tenants' names come from clients, so the memory of those who left is bounded.
TEST(FairQueueTest, ManyTenantsThatComeAndGo) {
  FairQueue shares;
  shares.Arrive("stays");
  for (int i = 0; i < 5000; ++i) {
    const std::string name = std::to_string(i);
    shares.Arrive(name);
    shares.Charge(name, 1 + i);
    shares.Leave(name);
  }
  EXPECT_EQ(shares.remembered(), 1024u);
  shares.Arrive("4999");
  EXPECT_EQ(shares.CounterOf("4999"), 5000) << "who has had most is remembered";
  shares.Charge("stays", 1e6);
  shares.Arrive("new");
  shares.Leave("new");
  EXPECT_EQ(shares.remembered(), 0u) << "the others have caught up with all";
}

TEST(RateEstimateTest, KnowsNothingAtFirst) {
  RateEstimate estimate;
  EXPECT_EQ(estimate.Of(1000, 1000), absl::ZeroDuration());
  EXPECT_EQ(estimate.AnswerTokens(128), 128u);
}

TEST(RateEstimateTest, LearnsEachRateFromStepsOfItsKind) {
  RateEstimate estimate;
  estimate.Step(100, 0, absl::Seconds(1));
  EXPECT_EQ(estimate.Of(50, 0), absl::Milliseconds(500));
  EXPECT_EQ(estimate.Of(0, 50), absl::ZeroDuration()) << "nothing is known of decoding";
  estimate.Step(0, 4, absl::Milliseconds(80));
  EXPECT_EQ(estimate.Of(0, 10), absl::Milliseconds(200)) << "a share of the batch's time";
  EXPECT_EQ(estimate.Of(50, 10), absl::Milliseconds(700));
}

TEST(RateEstimateTest, ANewSampleCountsATenth) {
  RateEstimate estimate;
  estimate.Step(100, 0, absl::Seconds(1));
  estimate.Step(100, 0, absl::Seconds(2));
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Of(100, 0)), 0.9 * 1 + 0.1 * 2, 1e-9);
}

TEST(RateEstimateTest, AMixedStepMeasuresDecodingAlone) {
  RateEstimate estimate;
  estimate.Step(100, 0, absl::Seconds(1));
  estimate.Step(10, 2, absl::Milliseconds(300));  // 100 ms of them are known to be prefill
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Of(0, 1)), 0.1, 1e-9);
  EXPECT_EQ(estimate.Of(100, 0), absl::Seconds(1));
  estimate.Step(100, 1, absl::Milliseconds(500));  // less than its prefill should take
  EXPECT_NEAR(absl::ToDoubleSeconds(estimate.Of(0, 1)), 0.1, 1e-9);
}

TEST(RateEstimateTest, AnswersHaveTheirUsualLength) {
  RateEstimate estimate;
  estimate.Answered(20);
  EXPECT_EQ(estimate.AnswerTokens(128), 20u);
  estimate.Answered(25);
  EXPECT_EQ(estimate.AnswerTokens(128), 21u) << "20.5, rounded up";
  EXPECT_EQ(estimate.AnswerTokens(8), 8u) << "never more than asked for";
}

// A job that only waits.
class WaitingJob : public QueuedJob {
 public:
  WaitingJob(Kind kind, absl::Time deadline, const Clock* clock, const Work& work)
      : QueuedJob(std::move(kind), deadline, clock) {
    SetWork(work);
  }
  void OnWaiting(uint32_t given, std::optional<absl::Duration> wait) override {
    EXPECT_FALSE(ahead.has_value()) << "called once";
    ahead = given;
    estimated_wait = wait;
  }
  Task<Done> Run() override { co_return Done{}; }
  void End(const absl::Status& status) override { ended = status; }

  std::optional<uint32_t> ahead;
  std::optional<absl::Duration> estimated_wait;
  std::optional<absl::Status> ended;
};

class JobQueueTest : public testing::Test {
 protected:
  using Pushed = std::shared_ptr<WaitingJob>;
  struct Ask {
    std::string tenant = "a";
    Work work = {};
    Priority priority = Priority::kInteractive;
    bool is_upload = false;
    absl::Duration patience = absl::InfiniteDuration();
    std::string model = "fake";
  };

  Pushed Make(const Ask& ask) {
    const absl::Time deadline = ask.patience == absl::InfiniteDuration()
                                    ? absl::InfiniteFuture()
                                    : clock_.Now() + ask.patience;
    return std::make_shared<WaitingJob>(
        QueuedJob::Kind{ask.is_upload, ask.priority, ask.tenant, ask.model}, deadline, &clock_,
        ask.work);
  }
  Pushed Push(const Ask& ask) {
    auto job = Make(ask);
    EXPECT_TRUE(queue().Push(job).ok());
    return job;
  }
  ErrorDetails Refusal(const Ask& ask, absl::StatusCode code) {
    const auto job = Make(ask);
    const absl::Status status = queue().Push(job);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_FALSE(job->ended || job->ahead) << "the caller is told, not the sink";
    return GetErrorDetails(status);
  }
  JobQueue& queue() {
    if (queue_ == nullptr) queue_ = std::make_shared<JobQueue>(limits_, &clock_, &metrics_);
    return *queue_;
  }

  QueueLimits limits_;
  FakeClock clock_;
  ServerMetrics metrics_{{"fake", "other_fake"}};

 private:
  std::shared_ptr<JobQueue> queue_;
};

TEST_F(JobQueueTest, EveryModelsShareOfTheLoad) {
  const auto expect_load = [&](const std::string& model, int running, int waiting) {
    const std::string name = "\nlectern_model_requests_", of = "{model=\"" + model + "\"} ";
    EXPECT_THAT(
        metrics_.Render(),
        testing::AllOf(testing::HasSubstr(name + "running" + of + std::to_string(running) + "\n"),
                       testing::HasSubstr(name + "waiting" + of + std::to_string(waiting) + "\n")));
  };
  const Pushed first = Push({});
  Push({.model = "other_fake"});
  Push({.model = "other_fake"});
  EXPECT_EQ(queue().TakeNext(), first);
  expect_load("fake", 1, 0);
  expect_load("other_fake", 0, 2);
  queue().Done(first);
  expect_load("fake", 0, 0);
}

TEST_F(JobQueueTest, BoundInRequests) {
  limits_.waiting = 2;
  queue().estimate().Step(100, 0, absl::Seconds(1));  // 10 ms a token
  const Pushed first = Push({.work = {.prefill_tokens = 300}});
  Push({.work = {.prefill_tokens = 300}});
  EXPECT_NE(metrics_.Render().find("\nlectern_admission_estimated_wait_seconds 6\n"),
            std::string::npos);
  const ErrorDetails details = Refusal({}, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(details.reason, "QUEUE_REQUESTS");
  EXPECT_EQ(details.metadata.at("limit"), "2");
  EXPECT_EQ(details.retry_after, absl::Seconds(2)) << "6 s are before it, for three places";
  EXPECT_EQ(GetErrorDetails(queue().CheckRoom()).reason, "QUEUE_REQUESTS");
  // Running jobs do not count as waiting.
  EXPECT_EQ(queue().TakeNext(), first);
  EXPECT_TRUE(queue().CheckRoom().ok());
  Push({});
  EXPECT_EQ(queue().waiting(), 2u);
  EXPECT_EQ(queue().running(), 1u);
}

TEST_F(JobQueueTest, TheTimeToTryAgainHasBounds) {
  limits_.waiting = 1;
  Push({.work = {.prefill_tokens = 1'000'000}});
  EXPECT_EQ(Refusal({}, absl::StatusCode::kResourceExhausted).retry_after, absl::Milliseconds(100))
      << "no rate is known yet";
  queue().estimate().Step(100, 0, absl::Seconds(1));
  EXPECT_EQ(Refusal({}, absl::StatusCode::kResourceExhausted).retry_after, absl::Seconds(30));
}

TEST_F(JobQueueTest, BoundInTokens) {
  limits_.waiting_tokens = 1000;
  queue().estimate().Step(100, 0, absl::Seconds(1));
  const Pushed large = Push({.work = {.prefill_tokens = 5000}});  // nothing else waits
  EXPECT_EQ(Refusal({.work = {.prefill_tokens = 1}}, absl::StatusCode::kResourceExhausted).reason,
            "QUEUE_TOKENS");
  EXPECT_EQ(queue().TakeNext(), large);
  Push({.work = {.prefill_tokens = 600}});
  const ErrorDetails details =
      Refusal({.work = {.prefill_tokens = 500}}, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(details.reason, "QUEUE_TOKENS");
  EXPECT_EQ(details.metadata.at("limit"), "1000");
  EXPECT_EQ(details.metadata.at("waiting"), "600");
  EXPECT_EQ(details.metadata.at("tokens"), "500");
  EXPECT_EQ(details.retry_after, absl::Seconds(5)) << "until as many have been read";
  Push({.work = {.prefill_tokens = 400, .decode_tokens = 100000}});
}

TEST_F(JobQueueTest, InteractiveThenTheLeastServedThenTheFirst) {
  const Pushed bulk = Push({.priority = Priority::kBulk});
  const Pushed a1 = Push({.tenant = "a"});
  const Pushed a2 = Push({.tenant = "a"});
  const Pushed b1 = Push({.tenant = "b"});
  const Pushed b2 = Push({.tenant = "b"});
  std::vector<std::shared_ptr<QueuedJob>> order;
  for (int i = 0; i < 5; ++i) {
    order.push_back(queue().TakeNext());
    ASSERT_NE(order.back(), nullptr);
    queue().Charge(*order.back(), 10);
  }
  EXPECT_THAT(order, ElementsAre(a1, b1, a2, b2, bulk));
  EXPECT_EQ(queue().TakeNext(), nullptr);
}

TEST_F(JobQueueTest, SlotsOfUploadsAndQuestionsAreTheirOwn) {
  limits_.running_uploads = 1;
  limits_.running_questions = 2;
  const Pushed upload1 = Push({.is_upload = true});
  const Pushed upload2 = Push({.is_upload = true});
  const Pushed asks[] = {Push({}), Push({}), Push({})};
  EXPECT_EQ(queue().TakeNext(), upload1);
  EXPECT_EQ(queue().TakeNext(), asks[0]) << "the second upload does not stand in its way";
  EXPECT_EQ(queue().TakeNext(), asks[1]);
  EXPECT_EQ(queue().TakeNext(), nullptr);
  queue().Done(upload1);
  EXPECT_EQ(queue().TakeNext(), upload2);
  queue().Done(asks[0]);
  EXPECT_EQ(queue().TakeNext(), asks[2]);
}

TEST_F(JobQueueTest, EachIsToldItsPlaceOnce) {
  limits_.running_questions = 1;
  const Pushed first = Push({}), second = Push({}), third = Push({});
  EXPECT_EQ(queue().TakeNext(), first);
  EXPECT_EQ(first->ahead, 0u);
  queue().Sweep();
  queue().Sweep();
  EXPECT_EQ(second->ahead, 1u) << "one runs";
  EXPECT_EQ(third->ahead, 2u);
}

TEST_F(JobQueueTest, TheEstimatedWaitIsTheWorkAhead) {
  limits_.running_questions = 1;
  const Pushed unknown = Push({.work = {10, 1}});
  const Pushed next = Push({.work = {20, 2}});
  EXPECT_EQ(queue().TakeNext(), unknown);
  EXPECT_EQ(unknown->estimated_wait, absl::ZeroDuration()) << "nothing is ahead";
  queue().Sweep();
  EXPECT_EQ(next->estimated_wait, std::nullopt) << "no rate is known";
  queue().estimate().Step(100, 0, absl::Seconds(100));
  queue().estimate().Step(0, 1, absl::Seconds(10));
  const Pushed third = Push({.work = {1, 1}});
  const Pushed bulk = Push({.work = {1000, 0}, .priority = Priority::kBulk});
  const Pushed fourth = Push({.work = {1, 1}});
  queue().Sweep();
  EXPECT_EQ(third->estimated_wait, absl::Seconds(10 + 20 + 10 * 3));
  EXPECT_EQ(bulk->estimated_wait, absl::Seconds(10 + 20 + 1 + 1 + 10 * 5)) << "others go first";
  EXPECT_EQ(fourth->estimated_wait, absl::Seconds(10 + 20 + 1 + 10 * 4)) << "bulk work is passed";
}

TEST_F(JobQueueTest, CancelledAndLateOnesLeave) {
  const Pushed runs = Push({.tenant = "a"});
  EXPECT_EQ(queue().TakeNext(), runs);
  queue().Charge(*runs, 50);
  const Pushed cancelled = Push({.tenant = "b", .work = {.prefill_tokens = 10}});
  const Pushed late = Push({.tenant = "c", .patience = absl::Seconds(5)});
  const Pushed stays = Push({.tenant = "a"});
  EXPECT_EQ(queue().CounterOf(*cancelled), 50);
  cancelled->Cancel();
  clock_.Advance(absl::Seconds(6));
  queue().Sweep();
  EXPECT_TRUE(absl::IsCancelled(*cancelled->ended));
  EXPECT_EQ(cancelled->SinceCancel(), absl::Seconds(6));
  EXPECT_EQ(GetErrorDetails(*late->ended).metadata.at("stage"), "queue");
  EXPECT_FALSE(stays->ended);
  EXPECT_EQ(queue().waiting(), 1u);
  EXPECT_EQ(queue().CounterOf(*cancelled), 0) << "its tenant's share is free";
  EXPECT_EQ(queue().CounterOf(*late), 0);
  EXPECT_EQ(queue().CounterOf(*stays), 50);
}

TEST_F(JobQueueTest, BoundInTime) {
  limits_.wait = absl::Seconds(5);
  queue().estimate().Step(100, 0, absl::Seconds(1));  // 10 ms a token
  const Pushed runs = Push({.work = {.prefill_tokens = 10'000}});
  EXPECT_EQ(queue().TakeNext(), runs);
  // Neither running nor passed jobs count, and a single job may be longer.
  Push({.work = {.prefill_tokens = 120}, .priority = Priority::kBulk});
  EXPECT_FALSE(queue().InteractiveWaits());
  Push({.work = {.prefill_tokens = 500}});
  Push({.work = {.prefill_tokens = 100}});
  const ErrorDetails details = Refusal({}, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(details.reason, "QUEUE_WAIT");
  EXPECT_EQ(details.metadata.at("limit_ms"), "5000");
  EXPECT_EQ(details.metadata.at("wait_ms"), "6000");
  EXPECT_EQ(details.retry_after, absl::Seconds(1));
  EXPECT_TRUE(queue().InteractiveWaits());
  // Bulk ones count for themselves, and have a quarter.
  Push({.work = {.prefill_tokens = 10}, .priority = Priority::kBulk});
  const ErrorDetails bulk =
      Refusal({.priority = Priority::kBulk}, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(bulk.reason, "QUEUE_WAIT");
  EXPECT_EQ(bulk.metadata.at("limit_ms"), "1250");
  EXPECT_EQ(bulk.metadata.at("wait_ms"), "1300");
}

TEST_F(JobQueueTest, AnUploadThatRunsTakesNoTimeFromQuestions) {
  queue().estimate().Step(100, 0, absl::Seconds(1));
  const Pushed runs =
      Push({.work = {.prefill_tokens = 100'000}, .priority = Priority::kBulk, .is_upload = true});
  EXPECT_EQ(queue().TakeNext(), runs);
  Push({.work = {.prefill_tokens = 100}, .patience = absl::Seconds(2)});
}

TEST_F(JobQueueTest, RefusesWhatCannotBeInTime) {
  queue().estimate().Step(100, 0, absl::Seconds(1));         // 10 ms a token
  queue().estimate().Step(0, 10, absl::Milliseconds(1000));  // 100 ms a token
  const Pushed runs = Push({.work = {.prefill_tokens = 100, .decode_tokens = 10}});
  EXPECT_EQ(queue().TakeNext(), runs);
  Push({.work = {.prefill_tokens = 100}});
  Push({.work = {.prefill_tokens = 100'000}, .priority = Priority::kBulk});
  // It has 2 s and 1 s before it (it passes the bulk one) and takes 2 s itself.
  const Work work{.prefill_tokens = 100, .decode_tokens = 10};
  const ErrorDetails details = Refusal({.work = work, .patience = absl::Milliseconds(4900)},
                                       absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(details.reason, "DEADLINE");
  EXPECT_EQ(details.metadata.at("stage"), "admission");
  EXPECT_EQ(details.metadata.at("estimate_ms"), "5000");
  EXPECT_EQ(details.metadata.at("left_ms"), "4900");
  Push({.work = work, .patience = absl::Milliseconds(5100)});
  // Work that is done no longer counts.
  runs->Did(100, 10);
  Push({.work = {.prefill_tokens = 1}, .patience = absl::Milliseconds(3100)});
  // The bulk one is before another bulk one.
  Refusal({.work = work, .priority = Priority::kBulk, .patience = absl::Minutes(10)},
          absl::StatusCode::kDeadlineExceeded);
  Push({.work = {.prefill_tokens = 1 << 19}});  // no deadline, no refusal
}

TEST_F(JobQueueTest, AClientThatLeavesAtItsDeadlineWasTooLate) {
  const auto leaves = [&](absl::Duration patience, absl::Duration after) {
    const Pushed job = Push({.patience = patience});
    clock_.Advance(after);
    job->Cancel();
    return job->Check(WorkStage::kDecode);
  };
  EXPECT_TRUE(absl::IsCancelled(leaves(absl::InfiniteDuration(), absl::Hours(1))));
  EXPECT_TRUE(absl::IsCancelled(leaves(absl::Seconds(10), absl::Milliseconds(9870))));
  const absl::Status late = leaves(absl::Seconds(10), absl::Milliseconds(9890));
  EXPECT_TRUE(absl::IsDeadlineExceeded(late));
  EXPECT_EQ(GetErrorDetails(late).metadata.at("stage"), "decode");
  EXPECT_TRUE(absl::IsCancelled(leaves(absl::Milliseconds(8), absl::Milliseconds(5))));
  EXPECT_TRUE(absl::IsDeadlineExceeded(leaves(absl::Milliseconds(8), absl::Milliseconds(6))));
}

TEST_F(JobQueueTest, ClosingKeepsTheWaitingJobs) {
  limits_.running_questions = 1;
  const Pushed runs = Push({}), waits = Push({});
  EXPECT_EQ(queue().TakeNext(), runs);
  queue().Close();
  EXPECT_EQ(Refusal({}, absl::StatusCode::kUnavailable).reason, "DRAINING");
  EXPECT_EQ(GetErrorDetails(queue().CheckOpen()).reason, "DRAINING");
  queue().Sweep();
  EXPECT_FALSE(waits->ended);
  EXPECT_FALSE(queue().WaitUntilIdle(absl::Now()));
  EXPECT_TRUE(runs->Check(WorkStage::kDecode).ok());

  EXPECT_THAT(queue().Abort(), ElementsAre(waits));
  EXPECT_EQ(GetErrorDetails(runs->Check(WorkStage::kDecode)).reason, "DRAINING");
  queue().Done(runs);
  EXPECT_TRUE(queue().WaitUntilIdle(absl::Now()));
}

}  // namespace
}  // namespace lectern
