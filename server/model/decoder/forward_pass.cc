// The forward pass of every decoder: RMSNorm, grouped-query attention with RoPE over paged keys and
// values, a gated feed-forward part (Touvron et al. 2023, arXiv 2302.13971, section 2.2), and what
// DecoderConfig adds to them. It names the operations in the order of the formula;
// DecoderOperations computes them.
#include <algorithm>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "server/model/decoder/cpu_decoder_operations.h"
#include "server/model/decoder/decoder_model.h"
#include "server/model/decoder/decoder_operations.h"
#include "server/model/layers/slice_checks.h"

namespace lectern {
namespace {

// Scratch memory of the forward pass: one for each calling thread.
struct DecoderWorkspace : public Workspace {
  DecoderWorkspace(const DecoderModel& of, std::unique_ptr<DecoderOperations> by)
      : model(of), operations(std::move(by)) {}

  const DecoderModel& model;  // whose operations these are
  const std::unique_ptr<DecoderOperations> operations;
  std::vector<ForwardSlice> slices;  // of the call, the evidence-only ones last
  ResidualObserver* observer = nullptr;
  std::vector<float> observed;
};

// The layers whose attention shows evidence best: 12 to 23 of the 30 of SmolLM2-135M
// (docs/measurements/quality.md), here as fractions. A layer with a window shows what is near
// rather than what answers, so it counts only where no layer of that range sees everything.
struct EvidenceLayers {
  explicit EvidenceLayers(const DecoderConfig& config) : shows(config.layer.size(), false) {
    const auto layers = static_cast<int>(config.layers);
    const int begin = layers * 2 / 5, end = layers * 4 / 5;
    bool any_sees_all = false;
    for (int i = begin; i < end; ++i) any_sees_all |= config.layer[i].window == 0;
    for (int i = begin; i < end; ++i) {
      if (any_sees_all && config.layer[i].window != 0) continue;
      shows[i] = true;
      last = i;
    }
  }

  std::vector<bool> shows;
  int last = -1;  // -1: none shows it
};

// One call of DecoderModel::Forward.
class DecoderForward {
 public:
  DecoderForward(const DecoderConfig& config, std::span<const ForwardSlice> slices,
                 DecoderWorkspace& workspace)
      : config_(config),
        workspace_(workspace),
        operations_(*workspace.operations),
        slices_(workspace.slices),
        evidence_(EvidenceLayers(config)) {
    slices_.assign(slices.begin(), slices.end());
    std::stable_partition(slices_.begin(), slices_.end(),
                          [](const ForwardSlice& slice) { return !slice.evidence_only; });
  }

  absl::Status Run() {
    LECTERN_RETURN_IF_ERROR(operations_.Begin(slices_));
    LECTERN_RETURN_IF_ERROR(Compute());
    return operations_.Finish();
  }

 private:
  absl::Status Compute() {
    const double r = config_.residual_factor;
    LECTERN_RETURN_IF_ERROR(operations_.Embed(config_.embedding_factor));
    LECTERN_RETURN_IF_ERROR(Observe(0));
    for (int i = 0; i < config_.layers; ++i) {
      // x += r * norm(attention(norm(x)))
      LECTERN_RETURN_IF_ERROR(operations_.ProjectQkv(i));
      LECTERN_RETURN_IF_ERROR(operations_.RotateAndWriteKv(i, config_.layer[i].rope));
      // The last layer only writes its keys and values, and its statistics if asked for, unless the
      // stream is read after it.
      const bool ends = i + 1 == config_.layers && !NeedsLastStream();
      if (!ends || NeedsStatistics()) LECTERN_RETURN_IF_ERROR(Attend(i));
      if (i == evidence_.last) DropEvidenceOnly();
      if (ends || slices_.empty()) return absl::OkStatus();
      LECTERN_RETURN_IF_ERROR(operations_.AddAttention(i, r));
      // x += r * norm(feed_forward(norm(x)))
      LECTERN_RETURN_IF_ERROR(operations_.ProjectGateUp(i));
      LECTERN_RETURN_IF_ERROR(operations_.AddFeedForward(i, config_.activation, r));
      LECTERN_RETURN_IF_ERROR(Observe(i + 1));
    }
    LECTERN_RETURN_IF_ERROR(Observe(static_cast<int>(config_.layers) + 1));
    return operations_.Logits(config_.logit_factor, config_.logit_cap);
  }

  absl::Status Attend(int index) {
    const DecoderLayer& layer = config_.layer[index];
    return operations_.Attend(index, {.scale = layer.scale,
                                      .window = layer.window,
                                      .score_cap = layer.score_cap,
                                      .key_mass = evidence_.shows[index]});
  }

  // True if the residual stream is read after the last layer's attention.
  bool NeedsLastStream() const {
    return workspace_.observer != nullptr ||
           std::any_of(slices_.begin(), slices_.end(), [](const auto& slice) {
             return slice.logits != nullptr || slice.all_logits != nullptr;
           });
  }

  bool NeedsStatistics() const {
    return std::any_of(slices_.begin(), slices_.end(), [](const auto& slice) {
      return slice.kept_mass != nullptr || slice.key_mass != nullptr;
    });
  }

  // Goes on without the evidence-only slices, which have all they asked for. They come last.
  void DropEvidenceOnly() {
    while (!slices_.empty() && slices_.back().evidence_only) slices_.pop_back();
    operations_.Truncate(slices_.size());
  }

  absl::Status Observe(int stage) {
    if (workspace_.observer == nullptr) return absl::OkStatus();
    const bool final_norm = stage > config_.layers;
    LECTERN_RETURN_IF_ERROR(operations_.ReadStream(final_norm, workspace_.observed));
    workspace_.observer->Observe(stage, workspace_.observed);
    return absl::OkStatus();
  }

  const DecoderConfig& config_;
  DecoderWorkspace& workspace_;
  DecoderOperations& operations_;
  std::vector<ForwardSlice>& slices_;  // in the workspace; the evidence-only ones come last
  const EvidenceLayers evidence_;
};

}  // namespace

std::unique_ptr<Workspace> DecoderModel::NewWorkspace() const {
  return std::make_unique<DecoderWorkspace>(
      *this, std::make_unique<CpuDecoderOperations>(
                 CpuDecoder{config_, *weights_, ropes_, layout_, execution_}));
}

void ObserveResidualStream(Workspace& workspace, ResidualObserver* observer) {
  dynamic_cast<DecoderWorkspace&>(workspace).observer = observer;
}

absl::Status DecoderModel::Forward(std::span<const ForwardSlice> slices,
                                   Workspace& workspace) const {
  const SliceLimits limits{config_.vocab, config_.context_length, static_cast<int>(config_.layers)};
  for (size_t i = 0; i < slices.size(); ++i) {
    const ForwardSlice& slice = slices[i];
    LECTERN_RETURN_IF_ERROR(CheckSliceTokens(limits, i, slice));
    LECTERN_RETURN_IF_ERROR(CheckSlicePages(
        i, "pages", slice.pages, slice.position + static_cast<int64_t>(slice.tokens.size())));
    LECTERN_RETURN_IF_ERROR(CheckSlicePolicy(limits, i, slice));
  }
  if (slices.empty()) return absl::OkStatus();
  auto* scratch = dynamic_cast<DecoderWorkspace*>(&workspace);
  if (scratch == nullptr || &scratch->model != this) {
    return absl::InvalidArgumentError("workspace: was made by another model");
  }
  try {
    return DecoderForward(config_, slices, *scratch).Run();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the activations of this batch");
  }
}

}  // namespace lectern
