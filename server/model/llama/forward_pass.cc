#include "server/model/llama/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "kernels/ffn/silu_mul.h"
#include "kernels/rows/hadamard.h"
#include "kernels/rows/rms_norm.h"
#include "server/model/kernel_status.h"
#include "server/model/layers/ffn_policy.h"
#include "server/model/layers/slice_checks.h"
#include "server/model/llama/forward_workspace.h"

namespace lectern {
namespace {

using Matrix = LlamaWeights::Matrix;

// Below this many values a parallel region costs more than it saves.
constexpr int64_t kSmallWork = 1 << 14;

// One call of RunLlamaForward.
class Pass {
 public:
  Pass(const LlamaForwardContext& context, std::span<const ForwardSlice> slices,
       LlamaWorkspace& workspace, ResidualObserver* observer)
      : context_(context),
        config_(context.config),
        weights_(context.weights),
        workspace_(workspace),
        slices_(workspace.slices),
        observer_(observer),
        execution_(context.execution) {
    slices_.assign(slices.begin(), slices.end());
    std::stable_partition(slices_.begin(), slices_.end(),
                          [](const ForwardSlice& slice) { return !slice.evidence_only; });
  }

  absl::Status Run() {
    LECTERN_RETURN_IF_ERROR(Prepare());
    for (int layer = 0; layer < config_.layers; ++layer) {
      LECTERN_RETURN_IF_ERROR(Attention(layer));
      if (slices_.empty()) return absl::OkStatus();
      if (layer + 1 == config_.layers && !NeedsLastStream()) return absl::OkStatus();
      LECTERN_RETURN_IF_ERROR(FeedForward(layer));
      Observe(layer + 1, stream_);
    }
    return Logits();
  }

 private:
  int64_t hidden() const { return config_.hidden; }
  int64_t query_width() const { return config_.heads * config_.head_dim; }
  int64_t key_width() const { return config_.kv_heads * config_.head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * key_width(); }

  LlamaWeights::Call CallOf(int layer) const {
    return {.layer = layer, .rows = rows_, .execution = execution_};
  }

  kernels::ExecutionContext ThreadsFor(int64_t values) const {
    kernels::ExecutionContext execution = execution_;
    if (values < kSmallWork) execution.num_threads = 1;
    return execution;
  }

  void Observe(int stage, const float* values) {
    if (observer_ == nullptr) return;
    observer_->Observe(stage, {values, static_cast<size_t>(rows_ * hidden())});
  }

  // True if someone reads the residual stream after the last layer's attention.
  bool NeedsLastStream() const {
    return observer_ != nullptr || std::any_of(slices_.begin(), slices_.end(), [](const auto& s) {
             return s.logits != nullptr || s.all_logits != nullptr;
           });
  }

  // Stacks the tokens, sizes the buffers and embeds.
  absl::Status Prepare() {
    workspace_.first_row.clear();
    workspace_.tokens.clear();
    for (const ForwardSlice& slice : slices_) {
      workspace_.first_row.push_back(static_cast<int64_t>(workspace_.tokens.size()));
      workspace_.tokens.insert(workspace_.tokens.end(), slice.tokens.begin(), slice.tokens.end());
    }
    rows_ = static_cast<int64_t>(workspace_.tokens.size());
    stream_ = workspace_.stream.Reserve(rows_ * hidden());
    cuts_units_ = std::any_of(slices_.begin(), slices_.end(),
                              [](const auto& slice) { return slice.policy->ffn_top_k > 0; });
    const bool fused = weights_.numerics().fuses_inputs;
    if (!fused || NeedsLastStream()) normed_ = workspace_.normed.Reserve(rows_ * hidden());
    qkv_ = workspace_.qkv.Reserve(rows_ * qkv_width());
    attended_ = workspace_.attended.Reserve(rows_ * query_width());
    gate_up_ = workspace_.gate_up.Reserve(rows_ * 2 * config_.intermediate);
    if (!fused || cuts_units_) {
      activated_ = workspace_.activated.Reserve(rows_ * config_.intermediate);
    }
    LECTERN_RETURN_IF_ERROR(weights_.Embed(workspace_.tokens, stream_));
    Observe(0, stream_);
    return absl::OkStatus();
  }

  absl::Status Norm(const float* x, int64_t rows, const float* gain, float* y) const {
    return FromKernel(kernels::RmsNorm(x, rows, hidden(), gain, static_cast<float>(config_.rms_eps),
                                       y, ThreadsFor(rows * hidden())),
                      "rms_norm");
  }

  // y = the product of the norm of the residual stream.
  absl::Status MultiplyNormed(Matrix matrix, int layer, const float* gain, float* y) const {
    if (weights_.numerics().fuses_inputs) {
      return weights_.MultiplyNormed(matrix, CallOf(layer), stream_, y);
    }
    LECTERN_RETURN_IF_ERROR(Norm(stream_, rows_, gain, normed_));
    return weights_.Multiply(matrix, CallOf(layer), normed_, y, /*accumulate=*/false);
  }

  // Queries, keys and values of all rows; keys and values go to the slices' pages.
  absl::Status ProjectQkv(int layer) {
    LECTERN_RETURN_IF_ERROR(
        MultiplyNormed(Matrix::kQkv, layer, weights_.AttentionNorm(layer), qkv_));
    for (size_t i = 0; i < slices_.size(); ++i) {
      const ForwardSlice& slice = slices_[i];
      const kernels::QkvRows rows{
          .qkv = qkv_ + workspace_.first_row[i] * qkv_width(),
          .stride = qkv_width(),
          .num_q_heads = static_cast<int>(config_.heads),
          .rope = &context_.rope,
          .hadamard = std::max<int64_t>(1, weights_.numerics().qk_hadamard)};
      LECTERN_RETURN_IF_ERROR(FromKernel(
          kernels::RotateAndWriteKv(context_.layout, slice.pages.data(), layer, slice.position,
                                    static_cast<int64_t>(slice.tokens.size()), rows, execution_),
          "rotate_and_write_kv"));
    }
    return absl::OkStatus();
  }

  kernels::AttentionArgs ArgsOf(size_t index, int layer) const {
    const ForwardSlice& slice = slices_[index];
    const int64_t row = workspace_.first_row[index];
    kernels::AttentionArgs args;
    args.q = qkv_ + row * qkv_width();
    args.q_stride = qkv_width();
    args.rows = static_cast<int64_t>(slice.tokens.size());
    args.num_q_heads = config_.heads;
    args.q_offset = slice.position;
    args.layout = context_.layout;
    args.table = {slice.pages.data(), slice.position + args.rows};
    args.layer = layer;
    args.scale = attention_scale_;
    args.out = attended_ + row * query_width();
    args.out_stride = query_width();
    if (slice.key_mass != nullptr && layer >= evidence_.first && layer < evidence_.last) {
      args.key_mass = slice.key_mass;
    }
    return args;
  }

  absl::Status Attend(int layer) {
    std::vector<PolicyAttentionCall>& calls = workspace_.attention_calls;
    calls.clear();
    for (size_t i = 0; i < slices_.size(); ++i) {
      calls.push_back({ArgsOf(i, layer), slices_[i].policy, slices_[i].kept_mass});
    }
    return workspace_.attention.Run(calls, layer, execution_);
  }

  absl::Status Attention(int layer) {
    LECTERN_RETURN_IF_ERROR(ProjectQkv(layer));
    if (layer + 1 == config_.layers && !NeedsLastStream()) {
      // Only the keys and values of the last layer are wanted, unless its statistics are.
      const bool statistics = std::any_of(slices_.begin(), slices_.end(), [](const auto& s) {
        return s.kept_mass != nullptr || s.key_mass != nullptr;
      });
      return statistics ? Attend(layer) : absl::OkStatus();
    }
    LECTERN_RETURN_IF_ERROR(Attend(layer));
    if (layer + 1 == evidence_.last) DropEvidenceOnly();
    if (slices_.empty()) return absl::OkStatus();
    return weights_.Multiply(Matrix::kAttentionOut, CallOf(layer), attended_, stream_,
                             /*accumulate=*/true);
  }

  // Goes on without the slices that have all they want; they are the last ones.
  void DropEvidenceOnly() {
    while (!slices_.empty() && slices_.back().evidence_only) {
      rows_ -= static_cast<int64_t>(slices_.back().tokens.size());
      slices_.pop_back();
    }
  }

  absl::Status FeedForward(int layer) {
    const int64_t width = config_.intermediate;
    LECTERN_RETURN_IF_ERROR(
        MultiplyNormed(Matrix::kGateUp, layer, weights_.FfnNorm(layer), gate_up_));
    if (weights_.numerics().fuses_inputs && !cuts_units_) {
      return weights_.MultiplySwiGlu(CallOf(layer), gate_up_, stream_, /*accumulate=*/true);
    }
    const auto execution = ThreadsFor(rows_ * width);
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::SiluMul(gate_up_, 2 * width, gate_up_ + width, 2 * width, rows_, width,
                                    activated_, width, execution),
                   "silu_mul"));
    LECTERN_RETURN_IF_ERROR(KeepUnits());
    if (weights_.numerics().down_hadamard > 0) {
      LECTERN_RETURN_IF_ERROR(
          FromKernel(kernels::BlockHadamard(activated_, rows_, width, width,
                                            weights_.numerics().down_hadamard, execution),
                     "hadamard"));
    }
    return weights_.Multiply(Matrix::kDown, CallOf(layer), activated_, stream_,
                             /*accumulate=*/true);
  }

  // Cuts the feed-forward activations of the slices whose policy asks for it.
  absl::Status KeepUnits() {
    const int64_t width = config_.intermediate;
    for (size_t i = 0; i < slices_.size(); ++i) {
      const int64_t row = workspace_.first_row[i];
      const int64_t rows = static_cast<int64_t>(slices_[i].tokens.size());
      LECTERN_RETURN_IF_ERROR(KeepTopUnits(*slices_[i].policy, kernels::FfnActivation::kSilu,
                                           gate_up_ + row * 2 * width, 2 * width, rows, width,
                                           activated_ + row * width, ThreadsFor(rows * width)));
    }
    return absl::OkStatus();
  }

  absl::Status Logits() {
    if (observer_ != nullptr) {
      LECTERN_RETURN_IF_ERROR(Norm(stream_, rows_, weights_.FinalNorm(), normed_));
      Observe(config_.layers + 1, normed_);
    }
    const int64_t vocabulary = config_.vocab;
    int64_t last_rows = 0;
    float* head_input = workspace_.head_input.Reserve(slices_.size() * hidden());
    for (size_t i = 0; i < slices_.size(); ++i) {
      const ForwardSlice& slice = slices_[i];
      const int64_t count = static_cast<int64_t>(slice.tokens.size());
      const float* stream = stream_ + workspace_.first_row[i] * hidden();
      if (slice.all_logits != nullptr) {
        float* normed = normed_ + workspace_.first_row[i] * hidden();
        LECTERN_RETURN_IF_ERROR(Norm(stream, count, weights_.FinalNorm(), normed));
        LECTERN_RETURN_IF_ERROR(
            weights_.Head({.rows = count, .execution = execution_}, normed, slice.all_logits));
        if (slice.logits != nullptr) {
          std::copy_n(slice.all_logits + (count - 1) * vocabulary, vocabulary, slice.logits);
        }
      } else if (slice.logits != nullptr) {
        std::copy_n(stream + (count - 1) * hidden(), hidden(), head_input + last_rows++ * hidden());
      }
    }
    return LastLogits(head_input, last_rows);
  }

  // The last row of every slice that asked for it alone: one product for all.
  absl::Status LastLogits(float* head_input, int64_t rows) {
    if (rows == 0) return absl::OkStatus();
    const int64_t vocabulary = config_.vocab;
    LECTERN_RETURN_IF_ERROR(Norm(head_input, rows, weights_.FinalNorm(), head_input));
    float* output = workspace_.head_output.Reserve(rows * vocabulary);
    LECTERN_RETURN_IF_ERROR(
        weights_.Head({.rows = rows, .execution = execution_}, head_input, output));
    for (const ForwardSlice& slice : slices_) {
      if (slice.logits == nullptr || slice.all_logits != nullptr) continue;
      std::copy_n(output, vocabulary, slice.logits);
      output += vocabulary;
    }
    return absl::OkStatus();
  }

  const LlamaForwardContext& context_;
  const LlamaConfig& config_;
  const LlamaWeights& weights_;
  LlamaWorkspace& workspace_;
  std::vector<ForwardSlice>& slices_;  // in the workspace; those of evidence only come last
  ResidualObserver* const observer_;
  const kernels::ExecutionContext execution_;
  const LayerRange evidence_ = EvidenceLayers(static_cast<int>(config_.layers));
  const float attention_scale_ =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)));

  int64_t rows_ = 0;
  bool cuts_units_ = false;  // a slice asks for ffn_top_k
  // Into the workspace; shapes in forward_workspace.h.
  float* stream_ = nullptr;
  float* normed_ = nullptr;
  float* qkv_ = nullptr;
  float* attended_ = nullptr;
  float* gate_up_ = nullptr;
  float* activated_ = nullptr;
};

}  // namespace

LayerRange EvidenceLayers(int layers) {
  // Layers 12-23 of the 30 of SmolLM2-135M (docs/measurements/quality.md), as fractions.
  return {layers * 2 / 5, layers * 4 / 5};
}

std::unique_ptr<Workspace> NewLlamaWorkspace() { return std::make_unique<LlamaWorkspace>(); }

absl::Status RunLlamaForward(const LlamaForwardContext& context,
                             std::span<const ForwardSlice> slices, Workspace& workspace,
                             ResidualObserver* observer) {
  const LlamaConfig& config = context.config;
  const SliceLimits limits{config.vocab, config.context_length, static_cast<int>(config.layers)};
  for (size_t i = 0; i < slices.size(); ++i) {
    const ForwardSlice& slice = slices[i];
    LECTERN_RETURN_IF_ERROR(CheckSliceTokens(limits, i, slice));
    LECTERN_RETURN_IF_ERROR(CheckSlicePages(
        i, "pages", slice.pages, slice.position + static_cast<int64_t>(slice.tokens.size())));
    LECTERN_RETURN_IF_ERROR(CheckSlicePolicy(limits, i, slice));
  }
  if (slices.empty()) return absl::OkStatus();
  auto* scratch = dynamic_cast<LlamaWorkspace*>(&workspace);
  if (scratch == nullptr) {
    return absl::InvalidArgumentError("workspace: was made by a model of another family");
  }
  return Pass(context, slices, *scratch, observer).Run();
}

}  // namespace lectern
