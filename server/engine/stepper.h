// Model steps of the running job: each is one Forward call, before which cancellation and deadline
// are looked at, and after which waiting jobs get the same attention. Used by the worker alone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/engine/job_queue.h"
#include "server/metrics/server_metrics.h"
#include "server/model/model.h"

namespace lectern {

// Consecutive tokens to compute, and what is wanted from them.
struct StepRequest {
  std::span<const int32_t> tokens;
  int64_t position = 0;
  std::span<std::byte* const> pages;
  const AttentionPolicy* policy = nullptr;
  float* logits = nullptr;
  float* key_mass = nullptr;
  KeptMass* kept_mass = nullptr;
};

class Stepper {
 public:
  Stepper(const Clock* clock, ServerMetrics* metrics, JobQueue* queue, int slice_tokens)
      : clock_(clock), metrics_(metrics), queue_(queue), slice_tokens_(slice_tokens) {}

  // Computes the tokens in slices. `progress`, or null, is told how many are done after each.
  // CANCELLED or DEADLINE_EXCEEDED as QueuedJob::Check() says, or the model's error.
  absl::Status Run(const Model& model, const StepRequest& request, const QueuedJob& job,
                   WorkStage stage, const std::function<void(uint64_t)>& progress);

  absl::Time last_step() const { return absl::FromUnixNanos(heartbeat_nanos_); }
  void Tick();

 private:
  Workspace& WorkspaceOf(const Model& model);

  const Clock* const clock_;
  ServerMetrics* const metrics_;
  JobQueue* const queue_;
  const int slice_tokens_;
  std::map<const Model*, std::unique_ptr<Workspace>> workspaces_;
  std::atomic<int64_t> heartbeat_nanos_{0};
};

}  // namespace lectern
