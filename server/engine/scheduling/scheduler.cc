#include "server/engine/scheduling/scheduler.h"

#include <algorithm>
#include <utility>

#include "server/engine/fault_points.h"

namespace lectern {
namespace {

// The cost of a token to its tenant. Decoding one takes the time of prefilling several.
constexpr double kPrefillCost = 1;
constexpr double kDecodeCost = 4;
// While questions are prefilled, uploads still get this share (1/4) of a step's prefill tokens.
constexpr size_t kBulkShare = 4;
// Prefilling fewer tokens in a step is not worth a pass over the weights.
constexpr size_t kLeastSlice = 16;

}  // namespace

Scheduler::Scheduler(const Clock* clock, ServerMetrics* metrics, std::shared_ptr<JobQueue> queue,
                     int slice_tokens)
    : clock_(clock),
      metrics_(metrics),
      queue_(std::move(queue)),
      slice_tokens_(static_cast<size_t>(std::max(1, slice_tokens))) {}

Scheduler::Steps::Steps(Scheduler* scheduler, const Model& model,
                        std::span<const ForwardSlice> slices, StepOwner owner,
                        const Progress* progress)
    : scheduler_(scheduler),
      model_(model),
      slices_(slices),
      owner_(owner),
      progress_(progress),
      cursors_(slices.size(), 0) {
  for (const ForwardSlice& slice : slices) total_ += slice.tokens.size();
  left_ = total_;
}

ForwardSlice Scheduler::Steps::Next(size_t slice, size_t tokens) const {
  ForwardSlice next = slices_[slice];
  const size_t cursor = cursors_[slice];
  if (cursor + tokens < next.tokens.size()) next.logits = nullptr;
  next.tokens = next.tokens.subspan(cursor, tokens);
  next.position += static_cast<int64_t>(cursor);
  return next;
}

void Scheduler::Steps::await_suspend(std::coroutine_handle<> waiting) {
  waiting_ = waiting;
  scheduler_->steps_.push_back(this);
}

void Scheduler::Wait::await_suspend(std::coroutine_handle<> waiting) {
  waiting_ = waiting;
  scheduler_->waits_.push_back(this);
}

Scheduler::Steps Scheduler::Run(const Model& model, std::span<const ForwardSlice> slices,
                                StepOwner owner, const Progress* progress) {
  return Steps(this, model, slices, owner, progress);
}

Scheduler::Wait Scheduler::WaitUntil(std::function<bool()> ready, StepOwner owner) {
  return Wait(this, std::move(ready), owner, /*for_memory=*/false);
}

Scheduler::Wait Scheduler::WaitForMemory(std::function<bool()> ready, StepOwner owner) {
  return Wait(this, std::move(ready), owner, /*for_memory=*/true);
}

void Scheduler::Tick() {
  const absl::Time now = clock_->Now();
  heartbeat_nanos_ = absl::ToUnixNanos(now);
  metrics_->SetHeartbeat(now);
}

Workspace& Scheduler::WorkspaceOf(const Model& model) {
  auto& workspace = workspaces_[&model];
  if (workspace == nullptr) workspace = model.NewWorkspace();
  return *workspace;
}

bool Scheduler::RunOnce() {
  Tick();
  queue_->Sweep();
  StartJobs();
  EndStoppedSteps();
  const bool resumed = ResumeWaiting();
  EndJobs();
  const Model* model = NextModel();
  if (model == nullptr) return resumed;
  Choose(*model);
  Forward(*model);
  FinishStep();
  EndJobs();
  return true;
}

void Scheduler::StartJobs() {
  while (std::shared_ptr<QueuedJob> job = queue_->TakeNext()) {
    absl::Status status = FaultPoint(Fault::kTaken);
    if (status.ok()) status = job->Check(WorkStage::kQueue);
    if (!status.ok()) {
      job->End(status);
      queue_->Done(job);
      continue;
    }
    jobs_.push_back({job, job->Run()});
    jobs_.back().task.Start();
  }
}

void Scheduler::EndJobs() {
  for (auto running = jobs_.begin(); running != jobs_.end();) {
    if (!running->task.done()) {
      ++running;
      continue;
    }
    ++jobs_ended_;
    const std::shared_ptr<QueuedJob> job = running->job;
    running = jobs_.erase(running);
    queue_->Done(job);
  }
}

void Scheduler::Resume(const std::vector<std::coroutine_handle<>>& handles) {
  for (const std::coroutine_handle<> handle : handles) handle.resume();
}

// Ends the steps of jobs that are cancelled, too late, or stopped.
void Scheduler::EndStoppedSteps() {
  std::vector<std::coroutine_handle<>> stopped;
  std::erase_if(steps_, [&](Steps* steps) {
    steps->status_ = steps->owner_.job->Check(steps->owner_.stage);
    if (steps->status_.ok()) return false;
    stopped.push_back(steps->waiting_);
    return true;
  });
  Resume(stopped);
}

bool Scheduler::ResumeWaiting() {
  std::vector<std::coroutine_handle<>> ready;
  std::erase_if(waits_, [&](Wait* wait) {
    wait->status_ = wait->owner_.job->Check(wait->owner_.stage);
    if (wait->status_.ok() && !wait->ready_()) return false;
    ready.push_back(wait->waiting_);
    return true;
  });
  const bool all_starve =
      ready.empty() && steps_.empty() && !waits_.empty() &&
      std::all_of(waits_.begin(), waits_.end(), [](const Wait* wait) { return wait->for_memory_; });
  if (all_starve) {
    // The last one to arrive gives way.
    waits_.back()->status_ = absl::AbortedError("every running job waits for memory");
    ready.push_back(waits_.back()->waiting_);
    waits_.pop_back();
  }
  Resume(ready);
  return !ready.empty();
}

// Models take turns.
const Model* Scheduler::NextModel() {
  const Model* next = nullptr;
  for (const Steps* steps : steps_) {
    if (&steps->model_ != last_model_) {
      next = &steps->model_;
      break;
    }
  }
  if (next == nullptr && !steps_.empty()) next = &steps_.front()->model_;
  last_model_ = next;
  return next;
}

// Chooses up to `budget` of the tokens for the coming step. Returns their number, which exceeds the
// budget only if an encoder's window, which is never cut, is alone in the step.
size_t Scheduler::Take(Steps& steps, size_t budget) {
  size_t taken = 0;
  for (size_t i = steps.first_; i < steps.slices_.size() && taken < budget; ++i) {
    const ForwardSlice& slice = steps.slices_[i];
    const size_t left = slice.tokens.size() - steps.cursors_[i];
    const bool fits = left <= budget - taken;
    if (slice.encode && !fits && chosen_prefill_ > 0) break;
    const size_t count = slice.encode || fits ? left : budget - taken;
    if (count == 0) continue;
    chosen_.push_back({&steps, i, count});
    taken += count;
    if (!steps.decodes()) chosen_prefill_ += count;
  }
  return taken;
}

void Scheduler::Choose(const Model& model) {
  chosen_.clear();
  chosen_prefill_ = 0;
  std::vector<Steps*> prefill;
  for (Steps* steps : steps_) {
    if (&steps->model_ != &model) continue;
    if (steps->decodes()) {
      Take(*steps, steps->left_);
    } else {
      prefill.push_back(steps);
    }
  }
  const size_t budget = chosen_.empty()
                            ? slice_tokens_
                            : std::max(slice_tokens_ / 2, std::min(slice_tokens_, kLeastSlice));
  ChoosePrefill(prefill, budget);
}

void Scheduler::ChoosePrefill(std::vector<Steps*>& prefill, size_t budget) {
  const auto priority = [](const Steps* steps) { return steps->owner_.job->kind().priority; };
  for (Steps* steps : prefill) steps->counter_ = queue_->CounterOf(*steps->owner_.job);
  std::stable_sort(prefill.begin(), prefill.end(), [&](const Steps* a, const Steps* b) {
    return std::make_pair(priority(a), a->counter_) < std::make_pair(priority(b), b->counter_);
  });
  const auto bulk = std::find_if(prefill.begin(), prefill.end(), [&](const Steps* steps) {
    return priority(steps) == Priority::kBulk;
  });
  // Waiting questions start sooner if the running ones finish sooner, so meanwhile an upload gets
  // no more than the fewest tokens that are worth a pass.
  const bool hurry = (bulk != prefill.begin() || !chosen_.empty()) && queue_->InteractiveWaits();
  const size_t bulk_share = std::min(budget / kBulkShare, hurry ? kLeastSlice : budget);
  const size_t for_bulk = bulk == prefill.end() ? 0 : bulk_share;
  size_t left = budget;
  for (auto steps = prefill.begin(); steps != bulk && left > for_bulk; ++steps) {
    left -= std::min(left, Take(**steps, left - std::min(left, for_bulk)));
  }
  if (hurry) left = std::min(left, for_bulk);
  for (auto steps = bulk; steps != prefill.end() && left > 0; ++steps) {
    left -= std::min(left, Take(**steps, left));
  }
}

// Computes what was chosen.
void Scheduler::Forward(const Model& model) {
  slices_.clear();
  uint64_t prefill_tokens = 0, decode_tokens = 0;
  for (const Chosen& chosen : chosen_) {
    slices_.push_back(chosen.steps->Next(chosen.slice, chosen.tokens));
    (chosen.steps->decodes() ? decode_tokens : prefill_tokens) += chosen.tokens;
  }
  const absl::Duration start = clock_->Steady();
  Workspace& workspace = WorkspaceOf(model);
  absl::Status status = FaultPoint(Fault::kBeforeStep);
  if (status.ok()) status = model.Forward(slices_, workspace);
  if (status.ok()) status = FaultPoint(Fault::kAfterStep);
  statuses_.assign(slices_.size(), status);
  if (slices_.size() > 1 && absl::IsInvalidArgument(status)) {
    // A model refuses bad arguments before it computes anything. One job's bad slice must not fail
    // the others.
    for (size_t i = 0; i < slices_.size(); ++i) {
      statuses_[i] = model.Forward({&slices_[i], 1}, workspace);
    }
  }
  const absl::Duration took = clock_->Steady() - start;
  metrics_->Step({.duration = took,
                  .prefill_tokens = prefill_tokens,
                  .decode_tokens = decode_tokens,
                  .sequences = chosen_.size()});
  queue_->estimate().Step(prefill_tokens, decode_tokens, took);
  Tick();
}

// Moves the cursors and resumes the jobs whose slices are done or failed.
void Scheduler::FinishStep() {
  for (size_t i = 0; i < chosen_.size(); ++i) {
    if (statuses_[i].ok()) {
      Account(chosen_[i]);
    } else {
      chosen_[i].steps->status_ = statuses_[i];
    }
  }
  std::vector<std::coroutine_handle<>> finished;
  std::erase_if(steps_, [&](Steps* steps) {
    if (steps->status_.ok() && steps->left_ > 0) return false;
    finished.push_back(steps->waiting_);
    return true;
  });
  Resume(finished);
}

void Scheduler::Account(const Chosen& chosen) {
  Steps& steps = *chosen.steps;
  steps.cursors_[chosen.slice] += chosen.tokens;
  steps.left_ -= chosen.tokens;
  while (steps.first_ < steps.slices_.size() &&
         steps.cursors_[steps.first_] == steps.slices_[steps.first_].tokens.size()) {
    ++steps.first_;
  }
  QueuedJob& job = *steps.owner_.job;
  const double tokens = static_cast<double>(chosen.tokens);
  if (steps.decodes()) {
    job.Did(0, chosen.tokens);
    queue_->Charge(job, tokens * kDecodeCost);
  } else {
    job.Did(chosen.tokens, 0);
    queue_->Charge(job, tokens * kPrefillCost);
  }
  if (steps.progress_ != nullptr) (*steps.progress_)(steps.total_ - steps.left_);
}

}  // namespace lectern
