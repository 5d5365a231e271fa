#include "server/engine/stepper.h"

#include <algorithm>

#include "server/base/status_macros.h"

namespace lectern {

Workspace& Stepper::WorkspaceOf(const Model& model) {
  std::unique_ptr<Workspace>& workspace = workspaces_[&model];
  if (workspace == nullptr) workspace = model.NewWorkspace();
  return *workspace;
}

void Stepper::Tick() {
  const absl::Time now = clock_->Now();
  heartbeat_nanos_ = absl::ToUnixNanos(now);
  metrics_->SetHeartbeat(now);
}

absl::Status Stepper::Run(const Model& model, const StepRequest& request, const QueuedJob& job,
                          WorkStage stage, const std::function<void(uint64_t)>& progress) {
  std::span<const int32_t> left = request.tokens;
  int64_t position = request.position;
  uint64_t done = 0;
  while (!left.empty()) {
    LECTERN_RETURN_IF_ERROR(job.Check(stage));
    const auto part = left.first(std::min<size_t>(left.size(), slice_tokens_));
    left = left.subspan(part.size());
    const ForwardSlice slice{.tokens = part,
                             .position = position,
                             .pages = request.pages,
                             .policy = request.policy,
                             .logits = left.empty() ? request.logits : nullptr,
                             .kept_mass = request.kept_mass,
                             .key_mass = request.key_mass};
    const absl::Duration start = clock_->Steady();
    LECTERN_RETURN_IF_ERROR(model.Forward({&slice, 1}, WorkspaceOf(model)));
    metrics_->Step(part.size() == 1 ? EnginePhase::kDecode : EnginePhase::kPrefill,
                   clock_->Steady() - start, part.size(), 1);
    Tick();
    queue_->Sweep();
    position += static_cast<int64_t>(part.size());
    done += part.size();
    if (progress) progress(done);
  }
  return absl::OkStatus();
}

}  // namespace lectern
