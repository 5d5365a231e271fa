// Continuous batching: combines the model steps of all running jobs into one Forward call at a
// time. Every sequence that decodes takes part in every step. The rest of the step's tokens goes to
// prefill: questions before uploads, then the tenant that has been served least. So a question
// joins at the next step, and no answer waits longer than one slice for its next token. While
// questions wait to be run, uploads get very little.
//
// Used by the engine's worker only, which runs the jobs' coroutines too. Only the work given to
// Background() runs on another thread.
#pragma once

#include <atomic>
#include <coroutine>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/engine/fault_points.h"
#include "server/engine/scheduling/background.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/metrics/server_metrics.h"
#include "server/model/model.h"

namespace lectern {

// The job that something is computed for, and the name of its stage in metrics and errors.
struct StepOwner {
  QueuedJob* job;
  WorkStage stage;
};

class Scheduler {
 public:
  using Progress = std::function<void(uint64_t)>;

  // `slice_tokens`: prefill tokens of one step that decodes nothing; half of that otherwise.
  Scheduler(const Clock* clock, ServerMetrics* metrics, std::shared_ptr<JobQueue> queue,
            int slice_tokens);

  // co_await Run(...): absl::Status. Computes the slices over as many steps as it takes. A
  // decoder's slice may be cut: its logits are those of its last token, and it must not ask for
  // all_logits or encoded. An encoder's window is never cut. Slices of different sequences run in
  // any order, those of one sequence in the given order. The slices and all memory that they point
  // to belong to the caller and must stay valid until the end. `progress`, or null, is called after
  // each step with the number of tokens computed so far. Returns CANCELLED, DEADLINE_EXCEEDED or
  // UNAVAILABLE as QueuedJob::Check() does, or the model's error.
  class Steps;
  Steps Run(const Model& model, std::span<const ForwardSlice> slices, StepOwner owner,
            const Progress* progress = nullptr);

  // co_await WaitUntil(...): absl::Status. Waits until `ready()`, which the worker calls between
  // steps, or until the job should stop.
  class Wait;
  Wait WaitUntil(std::function<bool()> ready, StepOwner owner);
  // Like WaitUntil(), for memory that other jobs hold. ABORTED if no job could give any back
  // because all of them wait for memory.
  Wait WaitForMemory(std::function<bool()> ready, StepOwner owner);
  uint64_t jobs_ended() const { return jobs_ended_; }

  // co_await Background(...): absl::StatusOr<T>. Runs `work`, which takes long and is no model
  // step, on the background thread. A job that should stop does not wait for it: work that has
  // begun runs on, so it must own what it uses; work that has not begun is dropped.
  template <typename T>
  Task<absl::StatusOr<T>> Background(std::function<T()> work, StepOwner owner);

  // The body of the worker's loop: begins jobs, computes one model step and resumes the jobs that
  // waited for it. False if there was nothing to do.
  bool RunOnce();
  bool has_jobs() const { return !jobs_.empty(); }

  absl::Time last_step() const { return absl::FromUnixNanos(heartbeat_nanos_); }
  void Tick();

 private:
  struct RunningJob {
    std::shared_ptr<QueuedJob> job;
    Task<Done> task;
  };
  // The next `tokens` tokens of one slice of `steps`, chosen for the coming step.
  struct Chosen {
    Steps* steps;
    size_t slice;
    size_t tokens;
  };

  void StartJobs();
  void EndJobs();
  bool ResumeWaiting();
  void EndStoppedSteps();
  void Resume(const std::vector<std::coroutine_handle<>>& handles);

  const Model* NextModel();
  void Choose(const Model& model);
  void ChoosePrefill(std::vector<Steps*>& prefill, size_t budget);
  size_t Take(Steps& steps, size_t budget);
  void Forward(const Model& model);
  void FinishStep();
  void Account(const Chosen& chosen);
  Workspace& WorkspaceOf(const Model& model);

  const Clock* const clock_;
  ServerMetrics* const metrics_;
  const std::shared_ptr<JobQueue> queue_;
  const size_t slice_tokens_;
  std::list<RunningJob> jobs_;
  std::vector<Steps*> steps_;  // waiting, in order of arrival
  std::vector<Wait*> waits_;
  std::vector<Chosen> chosen_;
  std::vector<ForwardSlice> slices_;
  std::vector<absl::Status> statuses_;  // of slices_
  size_t chosen_prefill_ = 0;           // tokens of prefill in chosen_
  const Model* last_model_ = nullptr;
  uint64_t jobs_ended_ = 0;
  std::map<const Model*, std::unique_ptr<Workspace>> workspaces_;
  std::atomic<int64_t> heartbeat_nanos_{0};
  BackgroundThread background_;
};

class Scheduler::Steps {
 public:
  bool await_ready() const noexcept { return left_ == 0; }
  void await_suspend(std::coroutine_handle<> waiting);
  absl::Status await_resume() { return std::move(status_); }

 private:
  friend class Scheduler;
  Steps(Scheduler* scheduler, const Model& model, std::span<const ForwardSlice> slices,
        StepOwner owner, const Progress* progress);
  // Tokens [cursor, cursor + tokens) of a slice.
  ForwardSlice Next(size_t slice, size_t tokens) const;
  bool decodes() const { return owner_.stage == WorkStage::kDecode; }

  Scheduler* const scheduler_;
  const Model& model_;
  const std::span<const ForwardSlice> slices_;
  const StepOwner owner_;
  const Progress* const progress_;
  std::vector<size_t> cursors_;  // tokens of each slice that are computed
  uint64_t total_ = 0;
  uint64_t left_ = 0;   // tokens not yet computed
  size_t first_ = 0;    // slices before it are done
  double counter_ = 0;  // of its tenant, while a step is put together
  absl::Status status_;
  std::coroutine_handle<> waiting_;
};

class Scheduler::Wait {
 public:
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiting);
  absl::Status await_resume() { return std::move(status_); }

 private:
  friend class Scheduler;
  Wait(Scheduler* scheduler, std::function<bool()> ready, StepOwner owner, bool for_memory)
      : scheduler_(scheduler), ready_(std::move(ready)), owner_(owner), for_memory_(for_memory) {}

  Scheduler* const scheduler_;
  const std::function<bool()> ready_;
  const StepOwner owner_;
  const bool for_memory_;
  absl::Status status_;
  std::coroutine_handle<> waiting_;
};

template <typename T>
Task<absl::StatusOr<T>> Scheduler::Background(std::function<T()> work, StepOwner owner) {
  struct State {
    std::function<T()> work;
    std::atomic<bool> taken{false};  // by the thread, or by the job when it stops
    absl::Status status;
    std::optional<T> result;
    std::atomic<bool> done{false};
  };
  auto state = std::make_shared<State>();
  state->work = std::move(work);
  background_.Run([state, queue = queue_] {
    if (state->taken.exchange(true)) return;
    state->status = FaultPoint(Fault::kBackground);
    if (state->status.ok()) state->result = state->work();
    state->work = nullptr;
    DelayPoint(Fault::kBackgroundDone);
    state->done = true;
    queue->Wake();
  });
  std::function<bool()> ready = [state] { return state->done.load(); };
  absl::Status status = co_await WaitUntil(std::move(ready), owner);
  if (!status.ok() && !state->taken.exchange(true)) state->work = nullptr;
  if (status.ok()) status = std::move(state->status);
  if (!status.ok()) co_return status;
  co_return *std::move(state->result);
}

}  // namespace lectern
