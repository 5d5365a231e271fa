// The forward pass of the Llama family (Touvron et al. 2023, arXiv 2302.13971, section 2.2):
// RMSNorm, grouped-query attention with RoPE over paged keys and values, SwiGLU. All tokens of all
// slices are stacked for the linear layers; attention runs slice by slice, over each slice's own
// pages.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/ffn/silu_mul.h"
#include "kernels/rows/rms_norm.h"
#include "server/model/decoder/decoder_model.h"
#include "server/model/kernel_status.h"
#include "server/model/layers/ffn_policy.h"
#include "server/model/layers/policy_attention.h"
#include "server/model/layers/slice_checks.h"

namespace lectern {
namespace {

// Below this many values a parallel loop costs more than it saves.
constexpr int64_t kSmallWork = 1 << 14;

// Scratch memory of the forward pass. Grows to the largest call and is then reused. Not
// thread-safe: one for each calling thread. T = stacked tokens of a call.
struct DecoderWorkspace : public Workspace {
  std::vector<ForwardSlice> slices;  // of the call, the evidence-only ones last
  std::vector<int32_t> tokens;       // [T]
  std::vector<int64_t> first_row;    // for each slice: its first row in the buffers below
  AlignedBuffer<float> stream;       // [T, hidden]: the residual stream
  AlignedBuffer<float> qkv;          // [T, (heads + 2 kv_heads) * head_dim]
  AlignedBuffer<float> attended;     // [T, heads * head_dim]
  AlignedBuffer<float> gate_up;      // [T, 2, intermediate]
  AlignedBuffer<float> activated;    // [T, intermediate]; only where units are cut
  AlignedBuffer<float> head_input;   // [rows with logits, hidden]
  AlignedBuffer<float> head_output;  // [rows with logits, vocabulary]
  std::vector<PolicyAttentionCall> attention_calls;  // for each slice, within one layer
  PolicyAttention attention;
  ResidualObserver* observer = nullptr;
  AlignedBuffer<float> observed;  // [T, hidden]: the stream after the final norm
};

struct LayerRange {
  int first = 0;
  int last = 0;
};

// The layers whose attention shows evidence best: [first, last). Layers 12 to 23 of the 30 of
// SmolLM2-135M (docs/measurements/quality.md), as fractions.
LayerRange EvidenceLayers(int layers) { return {layers * 2 / 5, layers * 4 / 5}; }

// The constants of a call.
struct DecoderForwardContext {
  const DecoderConfig& config;
  const DecoderWeights& weights;
  const kernels::RopeTable& rope;
  const kernels::KvPageLayout& layout;
  kernels::ExecutionContext execution;
};

// One call of DecoderModel::Forward.
class DecoderForward {
 public:
  DecoderForward(const DecoderForwardContext& context, std::span<const ForwardSlice> slices,
                 DecoderWorkspace& workspace)
      : context_(context),
        config_(context.config),
        weights_(context.weights),
        workspace_(workspace),
        slices_(workspace.slices),
        observer_(workspace.observer),
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
      LECTERN_RETURN_IF_ERROR(FeedForward(weights_.blocks[layer]));
      Observe(layer + 1, stream_);
    }
    return Logits();
  }

 private:
  int64_t hidden() const { return config_.hidden; }
  int64_t query_width() const { return config_.heads * config_.head_dim; }
  int64_t key_width() const { return config_.kv_heads * config_.head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * key_width(); }

  kernels::ExecutionContext ThreadsFor(int64_t values) const {
    kernels::ExecutionContext execution = execution_;
    if (values < kSmallWork) execution.num_threads = 1;
    return execution;
  }

  void Observe(int stage, const float* values) {
    if (observer_ == nullptr) return;
    observer_->Observe(stage, {values, static_cast<size_t>(rows_ * hidden())});
  }

  // True if the residual stream is read after the last layer's attention.
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
    qkv_ = workspace_.qkv.Reserve(rows_ * qkv_width());
    attended_ = workspace_.attended.Reserve(rows_ * query_width());
    gate_up_ = workspace_.gate_up.Reserve(rows_ * 2 * config_.intermediate);
    if (cuts_units_) activated_ = workspace_.activated.Reserve(rows_ * config_.intermediate);
    LECTERN_RETURN_IF_ERROR(weights_.Embed(workspace_.tokens, stream_));
    Observe(0, stream_);
    return absl::OkStatus();
  }

  // Queries, keys and values of all rows; keys and values go to the slices' pages.
  absl::Status ProjectQkv(int layer) {
    LECTERN_RETURN_IF_ERROR(weights_.blocks[layer].qkv.RunNormed(stream_, rows_, qkv_, execution_));
    for (size_t i = 0; i < slices_.size(); ++i) {
      const ForwardSlice& slice = slices_[i];
      const kernels::QkvRows rows{.qkv = qkv_ + workspace_.first_row[i] * qkv_width(),
                                  .stride = qkv_width(),
                                  .num_q_heads = static_cast<int>(config_.heads),
                                  .rope = &context_.rope,
                                  .hadamard = weights_.qk_hadamard()};
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
      // The last layer only writes its keys and values, and its statistics if asked for.
      const bool statistics = std::any_of(slices_.begin(), slices_.end(), [](const auto& s) {
        return s.kept_mass != nullptr || s.key_mass != nullptr;
      });
      return statistics ? Attend(layer) : absl::OkStatus();
    }
    LECTERN_RETURN_IF_ERROR(Attend(layer));
    if (layer + 1 == evidence_.last) DropEvidenceOnly();
    if (slices_.empty()) return absl::OkStatus();
    return weights_.blocks[layer].attention_out.Run(attended_, rows_, stream_,
                                                    /*accumulate=*/true, execution_);
  }

  // Goes on without the evidence-only slices, which have all they asked for. They come last.
  void DropEvidenceOnly() {
    while (!slices_.empty() && slices_.back().evidence_only) {
      rows_ -= static_cast<int64_t>(slices_.back().tokens.size());
      slices_.pop_back();
    }
  }

  absl::Status FeedForward(const DecoderBlock& block) {
    LECTERN_RETURN_IF_ERROR(block.gate_up.RunNormed(stream_, rows_, gate_up_, execution_));
    if (!cuts_units_) {
      return block.down.RunSwiGlu(gate_up_, rows_, stream_, /*accumulate=*/true, execution_);
    }
    const int64_t width = config_.intermediate;
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::SiluMul(gate_up_, 2 * width, gate_up_ + width, 2 * width, rows_, width,
                                    activated_, width, ThreadsFor(rows_ * width)),
                   "silu_mul"));
    LECTERN_RETURN_IF_ERROR(KeepUnits());
    return block.down.Run(activated_, rows_, stream_, /*accumulate=*/true, execution_);
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
    if (observer_ != nullptr) LECTERN_RETURN_IF_ERROR(ObserveFinalNorm());
    const int64_t vocabulary = config_.vocab;
    int64_t last_rows = 0;
    float* head_input = workspace_.head_input.Reserve(slices_.size() * hidden());
    for (size_t i = 0; i < slices_.size(); ++i) {
      const ForwardSlice& slice = slices_[i];
      const int64_t count = static_cast<int64_t>(slice.tokens.size());
      const float* stream = stream_ + workspace_.first_row[i] * hidden();
      if (slice.all_logits != nullptr) {
        LECTERN_RETURN_IF_ERROR(
            weights_.head.RunNormed(stream, count, slice.all_logits, execution_));
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
  absl::Status LastLogits(const float* head_input, int64_t rows) {
    if (rows == 0) return absl::OkStatus();
    const int64_t vocabulary = config_.vocab;
    float* output = workspace_.head_output.Reserve(rows * vocabulary);
    LECTERN_RETURN_IF_ERROR(weights_.head.RunNormed(head_input, rows, output, execution_));
    for (const ForwardSlice& slice : slices_) {
      if (slice.logits == nullptr || slice.all_logits != nullptr) continue;
      std::copy_n(output, vocabulary, slice.logits);
      output += vocabulary;
    }
    return absl::OkStatus();
  }

  absl::Status ObserveFinalNorm() {
    const Linear& head = weights_.head;
    float* normed = workspace_.observed.Reserve(rows_ * hidden());
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::RmsNorm(stream_, rows_, hidden(), head.norm_weight(),
                                    head.norm_epsilon(), normed, execution_),
                   "rms_norm"));
    Observe(static_cast<int>(config_.layers) + 1, normed);
    return absl::OkStatus();
  }

  const DecoderForwardContext& context_;
  const DecoderConfig& config_;
  const DecoderWeights& weights_;
  DecoderWorkspace& workspace_;
  std::vector<ForwardSlice>& slices_;  // in the workspace; the evidence-only ones come last
  ResidualObserver* const observer_;
  const kernels::ExecutionContext execution_;
  const LayerRange evidence_ = EvidenceLayers(static_cast<int>(config_.layers));
  const float attention_scale_ =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)));

  int64_t rows_ = 0;
  bool cuts_units_ = false;  // a slice asks for ffn_top_k
  // Into the workspace.
  float* stream_ = nullptr;
  float* qkv_ = nullptr;
  float* attended_ = nullptr;
  float* gate_up_ = nullptr;
  float* activated_ = nullptr;
};

}  // namespace

std::unique_ptr<Workspace> DecoderModel::NewWorkspace() const {
  return std::make_unique<DecoderWorkspace>();
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
  if (scratch == nullptr) {
    return absl::InvalidArgumentError("workspace: was made by a model of another family");
  }
  const DecoderForwardContext context{config_, *weights_, rope_, layout_, execution_};
  try {
    return DecoderForward(context, slices, *scratch).Run();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the activations of this batch");
  }
}

}  // namespace lectern
