// Tests which jobs share a step and in which order, with a scheduler that is run step by step.

#include "server/engine/scheduling/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_model.h"
#include "tests/testing/gate.h"

namespace lectern {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kSlice = 32;

// Tokens of each job in one step, by the job's number.
using Step = std::map<int, size_t>;

// Computes nothing and records who took part. A job's tokens are its number.
class RecordingModel : public FakeModel {
 public:
  absl::Status Forward(std::span<const ForwardSlice> slices, Workspace&) const override {
    Step step;
    for (const ForwardSlice& slice : slices) step[slice.tokens[0]] += slice.tokens.size();
    steps.push_back(std::move(step));
    return std::exchange(result, absl::OkStatus());
  }
  mutable std::vector<Step> steps;
  mutable absl::Status result;  // of the next step
};

// Prefills a number of tokens, then decodes a number of tokens.
class StepsJob : public QueuedJob {
 public:
  struct Plan {
    int number = 0;
    size_t prefill = 0;
    size_t decode = 0;
    std::string tenant = "a";
    bool is_upload = false;
  };
  StepsJob(const Plan& plan, const Clock* clock, Scheduler* scheduler, const Model* model)
      : QueuedJob({plan.is_upload, plan.is_upload ? Priority::kBulk : Priority::kInteractive,
                   plan.tenant},
                  absl::InfiniteFuture(), clock),
        plan_(plan),
        scheduler_(scheduler),
        model_(model) {}

  void OnWaiting(uint32_t, std::optional<absl::Duration>) override {}
  Task<Done> Run() override {
    const std::vector<int32_t> tokens(plan_.prefill, plan_.number);
    const ForwardSlice prefill{.tokens = tokens};
    status = co_await scheduler_->Run(*model_, {&prefill, 1}, {this, WorkStage::kPrefill});
    const ForwardSlice decode{.tokens = {&plan_.number, 1}};
    for (size_t i = 0; i < plan_.decode && status.ok(); ++i) {
      status = co_await scheduler_->Run(*model_, {&decode, 1}, {this, WorkStage::kDecode});
    }
    over = true;
    co_return Done{};
  }
  void End(const absl::Status& given) override {
    status = given;
    over = true;
  }

  absl::Status status;
  bool over = false;

 private:
  const Plan plan_;
  Scheduler* const scheduler_;
  const Model* const model_;
};

class SchedulerTest : public testing::Test {
 protected:
  std::shared_ptr<StepsJob> Push(const StepsJob::Plan& plan) {
    auto job = std::make_shared<StepsJob>(plan, &clock_, &scheduler_, &model_);
    EXPECT_TRUE(queue_->Push(job).ok());
    return job;
  }
  // The next step; empty if there was none.
  Step Next() {
    const size_t before = model_.steps.size();
    scheduler_.RunOnce();
    EXPECT_LE(model_.steps.size(), before + 1);
    return model_.steps.size() > before ? model_.steps.back() : Step{};
  }
  // Tokens of each job in all steps so far.
  Step Sum() const {
    Step sum;
    for (const Step& step : model_.steps) {
      for (const auto& [job, tokens] : step) sum[job] += tokens;
    }
    return sum;
  }
  double CounterOf(const std::shared_ptr<StepsJob>& job) { return queue_->CounterOf(*job); }

  FakeClock clock_;
  ServerMetrics metrics_{{"fake"}};
  RecordingModel model_;
  std::shared_ptr<JobQueue> queue_ = std::make_shared<JobQueue>(
      QueueLimits{.running_questions = 3, .running_uploads = 2}, &clock_, &metrics_);
  Scheduler scheduler_{&clock_, &metrics_, queue_, kSlice};
};

TEST_F(SchedulerTest, AnUploadNeverHoldsUpAnAnswerByMoreThanASlice) {
  const auto answer = Push({.number = 1, .prefill = 4, .decode = 40});
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 4)));
  const auto upload = Push({.number = 2, .prefill = 1000, .is_upload = true});
  for (int token = 0; token < 40; ++token) {
    // Each step has the answer's next token and half a slice of the upload.
    EXPECT_THAT(Next(), ElementsAre(std::pair(1, 1), std::pair(2, kSlice / 2)));
  }
  EXPECT_TRUE(answer->over);
  EXPECT_THAT(Next(), ElementsAre(std::pair(2, kSlice))) << "alone it has the whole slice";
  while (!upload->over) ASSERT_FALSE(Next().empty());
  EXPECT_EQ(Sum()[2], 1000u);
}

TEST_F(SchedulerTest, QuestionsJoinAndLeaveAtAnyStep) {
  const auto first = Push({.number = 1, .prefill = 2, .decode = 5});
  Next();
  Next();
  const auto second = Push({.number = 2, .prefill = 3, .decode = 4});
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 1), std::pair(2, 3))) << "at the next step";
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 1), std::pair(2, 1)));
  const auto third = Push({.number = 3, .prefill = 1, .decode = 1});
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 1), std::pair(2, 1), std::pair(3, 1)));
  EXPECT_EQ(queue_->running(), 3u);
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 1), std::pair(2, 1), std::pair(3, 1)));
  EXPECT_TRUE(first->over);
  EXPECT_TRUE(third->over);
  EXPECT_EQ(queue_->running(), 1u);
  EXPECT_THAT(Next(), ElementsAre(std::pair(2, 1)));
  EXPECT_TRUE(second->over);
  EXPECT_THAT(Next(), IsEmpty());
  EXPECT_FALSE(scheduler_.has_jobs());
}

TEST_F(SchedulerTest, OneThatEndsMakesRoomForOneThatWaits) {
  for (int i = 1; i <= 4; ++i) Push({.number = i, .prefill = 2, .decode = static_cast<size_t>(i)});
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 2), std::pair(2, 2), std::pair(3, 2)));
  EXPECT_EQ(queue_->waiting(), 1u);
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 1), std::pair(2, 1), std::pair(3, 1)));
  EXPECT_THAT(Next(), ElementsAre(std::pair(2, 1), std::pair(3, 1), std::pair(4, 2)));
}

TEST_F(SchedulerTest, TenantsThatReadGetEqualShares) {
  const auto a = Push({.number = 1, .prefill = 640, .tenant = "a"});
  Push({.number = 2, .prefill = 640, .tenant = "a"});
  const auto b = Push({.number = 3, .prefill = 640, .tenant = "b"});
  for (int step = 1; step <= 30; ++step) {
    Next();
    const Step sum = Sum();
    const auto of = [&](int job) { return sum.contains(job) ? sum.at(job) : 0; };
    const size_t of_a = of(1) + of(2), of_b = of(3);
    EXPECT_EQ(of_a + of_b, static_cast<size_t>(step * kSlice));
    EXPECT_LE(std::max(of_a, of_b) - std::min(of_a, of_b), static_cast<size_t>(kSlice))
        << "after step " << step;
    EXPECT_EQ(CounterOf(a), static_cast<double>(of_a));
    EXPECT_EQ(CounterOf(b), static_cast<double>(of_b));
  }
}

TEST_F(SchedulerTest, TenantsThatWaitTakeTurns) {
  // Ten of one tenant are there before three of another; the questions cost alike.
  std::vector<std::shared_ptr<StepsJob>> a, b;
  for (int i = 0; i < 10; ++i) a.push_back(Push({.number = 1, .prefill = kSlice, .tenant = "a"}));
  Next();
  for (int i = 0; i < 3; ++i) b.push_back(Push({.number = 2, .prefill = kSlice, .tenant = "b"}));
  while (!b.back()->over) ASSERT_FALSE(Next().empty());
  const auto over = std::count_if(a.begin(), a.end(), [](const auto& job) { return job->over; });
  EXPECT_GE(over, 3);
  EXPECT_LE(over, 5) << "and not all ten";
}

TEST_F(SchedulerTest, ADecodedTokenCostsAsMuchAsFour) {
  const auto job = Push({.number = 1, .prefill = 10, .decode = 5});
  for (int step = 0; step < 4; ++step) Next();  // one reads, three generate
  EXPECT_EQ(CounterOf(job), 10 + 3 * 4);
}

TEST_F(SchedulerTest, InteractiveGoesBeforeBulkWhichKeepsAQuarter) {
  Push({.number = 1, .prefill = 200, .tenant = "a", .is_upload = true});
  Push({.number = 2, .prefill = 48, .tenant = "a"});
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 8), std::pair(2, 24)));
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 8), std::pair(2, 24)));
  EXPECT_THAT(Next(), ElementsAre(std::pair(1, 32)));
}

TEST_F(SchedulerTest, AnUploadHoldsBackWhileQuestionsWait) {
  Scheduler scheduler(&clock_, &metrics_, queue_, /*slice_tokens=*/256);
  const auto push = [&](const StepsJob::Plan& plan) {
    auto job = std::make_shared<StepsJob>(plan, &clock_, &scheduler, &model_);
    EXPECT_TRUE(queue_->Push(job).ok());
    return job;
  };
  const auto next = [&] {
    scheduler.RunOnce();
    return model_.steps.back();
  };
  const auto upload = push({.number = 9, .prefill = 2000, .is_upload = true});
  EXPECT_THAT(next(), ElementsAre(std::pair(9, 256)));
  for (int i = 1; i <= 3; ++i) push({.number = i, .prefill = 1, .decode = 2});
  EXPECT_THAT(next(),
              ElementsAre(std::pair(1, 1), std::pair(2, 1), std::pair(3, 1), std::pair(9, 253)))
      << "nobody waits";
  const auto waits = push({.number = 4, .prefill = 1, .decode = 1});
  EXPECT_THAT(next(),
              ElementsAre(std::pair(1, 1), std::pair(2, 1), std::pair(3, 1), std::pair(9, 16)));
  next();
  EXPECT_THAT(next(), ElementsAre(std::pair(4, 1), std::pair(9, 255)));
  while (!upload->over) next();
  EXPECT_TRUE(waits->over);
  EXPECT_EQ(Sum()[9], 2000u);
}

TEST_F(SchedulerTest, ACancelledJobTakesPartInNoFurtherStep) {
  const auto reads = Push({.number = 1, .prefill = 200});
  const auto answers = Push({.number = 2, .prefill = 1, .decode = 100});
  Next();
  Next();
  reads->Cancel();
  EXPECT_THAT(Next(), ElementsAre(std::pair(2, 1)));
  EXPECT_TRUE(absl::IsCancelled(reads->status));
  answers->Cancel();
  EXPECT_THAT(Next(), IsEmpty());
  EXPECT_TRUE(answers->over);
  EXPECT_EQ(queue_->running(), 0u);
}

TEST_F(SchedulerTest, AFailedStepEndsWhoTookPartInIt) {
  const auto first = Push({.number = 1, .prefill = 10, .decode = 5});
  Next();
  model_.result = absl::InternalError("kernel");
  Next();
  const auto second = Push({.number = 2, .prefill = 10, .decode = 1});
  while (!second->over) ASSERT_FALSE(Next().empty());
  EXPECT_TRUE(absl::IsInternal(first->status));
  EXPECT_TRUE(second->status.ok());
}

// Waits for memory that never comes.
class StarvingJob : public QueuedJob {
 public:
  StarvingJob(const Clock* clock, Scheduler* scheduler)
      : QueuedJob({}, absl::InfiniteFuture(), clock), scheduler_(scheduler) {}
  void OnWaiting(uint32_t, std::optional<absl::Duration>) override {}
  Task<Done> Run() override {
    std::function<bool()> ready = [this] { return has_memory; };
    status = co_await scheduler_->WaitForMemory(std::move(ready), {this, WorkStage::kPrefill});
    over = true;
    co_return Done{};
  }
  void End(const absl::Status&) override {}

  bool has_memory = false;
  bool over = false;
  absl::Status status;

 private:
  Scheduler* const scheduler_;
};

TEST_F(SchedulerTest, WhenAllStarveTheLastGivesWay) {
  const auto first = std::make_shared<StarvingJob>(&clock_, &scheduler_);
  const auto second = std::make_shared<StarvingJob>(&clock_, &scheduler_);
  ASSERT_TRUE(queue_->Push(first).ok());
  ASSERT_TRUE(queue_->Push(second).ok());
  const auto reads = Push({.number = 1, .prefill = 2 * kSlice});
  Next();
  Next();
  EXPECT_TRUE(reads->over);
  EXPECT_FALSE(first->over || second->over) << "somebody could have given memory back";
  EXPECT_TRUE(scheduler_.RunOnce());
  EXPECT_TRUE(absl::IsAborted(second->status));
  EXPECT_FALSE(first->over);
  first->has_memory = true;
  EXPECT_TRUE(scheduler_.RunOnce());
  EXPECT_TRUE(first->over);
  EXPECT_TRUE(first->status.ok());
}

// Has work done on the background thread.
class BackgroundJob : public QueuedJob {
 public:
  BackgroundJob(const Clock* clock, Scheduler* scheduler, std::function<int()> work)
      : QueuedJob({}, absl::InfiniteFuture(), clock),
        scheduler_(scheduler),
        work_(std::move(work)) {}
  void OnWaiting(uint32_t, std::optional<absl::Duration>) override {}
  Task<Done> Run() override {
    result = co_await scheduler_->Background(std::move(work_), {this, WorkStage::kIngest});
    over = true;
    co_return Done{};
  }
  void End(const absl::Status&) override {}

  absl::StatusOr<int> result = 0;
  bool over = false;

 private:
  Scheduler* const scheduler_;
  std::function<int()> work_;
};

// Clients that upload and leave must not pile up texts while one of them is being tokenised.
TEST_F(SchedulerTest, WorkThatNobodyWaitsForIsDropped) {
  Gate gate;
  gate.Close();
  const auto holds = std::make_shared<BackgroundJob>(&clock_, &scheduler_, [&gate] {
    gate.Pass();
    return 1;
  });
  auto text = std::make_shared<std::string>("a long one");
  const std::weak_ptr<std::string> held = text;
  bool ran = false;
  const auto leaves =
      std::make_shared<BackgroundJob>(&clock_, &scheduler_, [text = std::move(text), &ran] {
        ran = true;
        return 2;
      });
  ASSERT_TRUE(queue_->Push(holds).ok());
  ASSERT_TRUE(queue_->Push(leaves).ok());
  scheduler_.RunOnce();
  gate.WaitForVisitor();
  leaves->Cancel();
  scheduler_.RunOnce();
  EXPECT_TRUE(leaves->over);
  EXPECT_TRUE(absl::IsCancelled(leaves->result.status()));
  EXPECT_TRUE(held.expired()) << "although the thread has not come to it";
  gate.Open();
  while (!holds->over) {
    scheduler_.RunOnce();
    queue_->WaitForWork(absl::Seconds(1));
  }
  EXPECT_EQ(*holds->result, 1);
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace lectern
