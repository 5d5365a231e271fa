// The forward pass of BERT (Devlin et al. 2019, arXiv 1810.04805): an encoder with learned
// positions, LayerNorm after each part, GELU, and, for question answering, a score for each token
// that an answer begins or ends there (section 4.2). It serves every family of bert_family.h:
// ELECTRA's narrow embeddings are projected to the width of the layers first. Attention and
// feed-forward parts follow the slice's policy.
//
// All windows of a call are stacked for the linear layers; attention runs window by window, so that
// nothing is padded.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/ffn/activate.h"
#include "kernels/rows/layer_norm.h"
#include "server/model/bert/bert_model.h"
#include "server/model/kernel_status.h"
#include "server/model/layers/ffn_policy.h"
#include "server/model/layers/hadamard_width.h"
#include "server/model/layers/policy_attention.h"
#include "server/model/layers/scratch_pages.h"
#include "server/model/layers/slice_checks.h"

namespace lectern {
namespace {

// Scratch memory of the forward pass. Not thread-safe: one for each calling thread. T = stacked
// tokens.
struct BertWorkspace : public Workspace {
  std::vector<int64_t> first_row;
  AlignedBuffer<float> embedded;   // [T, embedding], if they are projected
  AlignedBuffer<float> stream;     // [T, hidden]
  AlignedBuffer<float> qkv;        // [T, 3, heads, head_dim]
  AlignedBuffer<float> attended;   // [T, heads, head_dim]
  AlignedBuffer<float> units;      // [T, intermediate]
  AlignedBuffer<float> activated;  // [T, intermediate]
  ScratchPages pages;              // of one layer
  std::vector<PolicyAttentionCall> calls;
  PolicyAttention attention;
};

// One call of BertModel::Forward.
class BertForward {
 public:
  BertForward(const BertConfig& config, const BertWeights& weights,
              const kernels::ExecutionContext& execution, std::span<const ForwardSlice> slices,
              BertWorkspace& workspace)
      : config_(config),
        weights_(weights),
        slices_(slices),
        workspace_(workspace),
        execution_(execution),
        layout_{.type = weights.form().kv_type(),
                .num_layers = 1,
                .num_kv_heads = static_cast<int>(config_.heads),
                .head_dim = static_cast<int>(config_.head_dim()),
                .value_dim = static_cast<int>(config_.head_dim())} {}

  absl::Status Run() {
    LECTERN_RETURN_IF_ERROR(Embed());
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      const BertLayer& layer = weights_.layers[i];
      LECTERN_RETURN_IF_ERROR(Attention(layer, static_cast<int>(i)));
      LECTERN_RETURN_IF_ERROR(FeedForward(layer));
    }
    WriteOutputs();
    return absl::OkStatus();
  }

 private:
  int64_t hidden() const { return config_.hidden; }
  static int64_t Tokens(const ForwardSlice& slice) {
    return static_cast<int64_t>(slice.tokens.size());
  }

  // Normalises x [rows, width] in place.
  absl::Status NormRows(const BertNorm& norm, float* x, int64_t width) const {
    return FromKernel(kernels::LayerNorm(x, rows_, width, norm.weight.data(), norm.bias.data(),
                                         static_cast<float>(config_.norm_eps), x, execution_),
                      "layer_norm");
  }
  absl::Status Norm(const BertNorm& norm) const { return NormRows(norm, stream_, hidden()); }

  absl::Status Embed() {
    std::vector<int64_t> sizes;
    workspace_.first_row.clear();
    rows_ = 0;
    for (const ForwardSlice& slice : slices_) {
      workspace_.first_row.push_back(rows_);
      sizes.push_back(Tokens(slice));
      rows_ += Tokens(slice);
    }
    stream_ = workspace_.stream.Reserve(rows_ * hidden());
    qkv_ = workspace_.qkv.Reserve(rows_ * 3 * hidden());
    attended_ = workspace_.attended.Reserve(rows_ * hidden());
    units_ = workspace_.units.Reserve(rows_ * config_.intermediate);
    activated_ = workspace_.activated.Reserve(rows_ * config_.intermediate);
    workspace_.pages.Reserve(layout_, sizes);
    const int64_t width = config_.embedding;
    const bool projected = width != hidden();
    float* embedded = projected ? workspace_.embedded.Reserve(rows_ * width) : stream_;
    for (size_t i = 0; i < slices_.size(); ++i) {
      LECTERN_RETURN_IF_ERROR(weights_.Embed(slices_[i].tokens, slices_[i].document_begin,
                                             embedded + workspace_.first_row[i] * width));
    }
    LECTERN_RETURN_IF_ERROR(NormRows(weights_.embedding_norm, embedded, width));
    if (!projected) return absl::OkStatus();
    return weights_.embedding_projection.Run(embedded, rows_, stream_, /*accumulate=*/false,
                                             execution_);
  }

  absl::Status Attention(const BertLayer& weights, int layer) {
    const int64_t stride = 3 * hidden();
    LECTERN_RETURN_IF_ERROR(
        weights.qkv.Run(stream_, rows_, qkv_, /*accumulate=*/false, execution_));
    LECTERN_RETURN_IF_ERROR(
        RotateHeads(layout_, qkv_, rows_, 2 * config_.heads, stride, execution_));
    workspace_.calls.clear();
    for (size_t i = 0; i < slices_.size(); ++i) {
      const ForwardSlice& slice = slices_[i];
      const float* rows = qkv_ + workspace_.first_row[i] * stride;
      std::byte* const* pages = workspace_.pages.Of(i);
      LECTERN_RETURN_IF_ERROR(FromKernel(
          kernels::WriteKv(layout_, pages, /*layer=*/0, /*position=*/0, Tokens(slice),
                           rows + hidden(), stride, rows + 2 * hidden(), stride, execution_),
          "write_kv"));
      kernels::AttentionArgs args;
      args.q = rows;
      args.q_stride = stride;
      args.rows = Tokens(slice);
      args.num_q_heads = static_cast<int>(config_.heads);
      args.layout = layout_;
      args.table = {pages, args.rows};
      args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim())));
      args.causal = false;
      args.out = attended_ + workspace_.first_row[i] * hidden();
      args.out_stride = hidden();
      workspace_.calls.push_back({args, slice.policy, slice.kept_mass});
    }
    LECTERN_RETURN_IF_ERROR(workspace_.attention.Run(workspace_.calls, layer, execution_));
    LECTERN_RETURN_IF_ERROR(
        weights.attention_out.Run(attended_, rows_, stream_, /*accumulate=*/true, execution_));
    return Norm(weights.attention_norm);
  }

  absl::Status FeedForward(const BertLayer& weights) {
    const kernels::FfnActivation activation = config_.activation;
    const int64_t width = config_.intermediate;
    LECTERN_RETURN_IF_ERROR(
        weights.in.Run(stream_, rows_, units_, /*accumulate=*/false, execution_));
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::Activate(activation, units_, width, nullptr, 0, rows_, width,
                                     activated_, width, execution_),
                   "activate"));
    for (size_t i = 0; i < slices_.size(); ++i) {
      const int64_t row = workspace_.first_row[i];
      LECTERN_RETURN_IF_ERROR(KeepTopUnits(*slices_[i].policy, activation, units_ + row * width,
                                           width, Tokens(slices_[i]), width,
                                           activated_ + row * width, execution_));
    }
    LECTERN_RETURN_IF_ERROR(
        weights.out.Run(activated_, rows_, stream_, /*accumulate=*/true, execution_));
    return Norm(weights.out_norm);
  }

  void WriteOutputs() const {
    for (size_t i = 0; i < slices_.size(); ++i) {
      const ForwardSlice& slice = slices_[i];
      const float* states = stream_ + workspace_.first_row[i] * hidden();
      if (slice.encoded != nullptr) std::copy_n(states, Tokens(slice) * hidden(), slice.encoded);
      for (int end = 0; end < 2; ++end) {
        float* scores = end == 0 ? slice.span_begins : slice.span_ends;
        for (int64_t row = 0; scores != nullptr && row < Tokens(slice); ++row) {
          scores[row] = SpanScore(states + row * hidden(), end);
        }
      }
    }
  }

  float SpanScore(const float* state, int end) const {
    const float* weights = weights_.span_weights.data() + end * hidden();
    double sum = weights_.span_bias[end];
    for (int64_t c = 0; c < hidden(); ++c) sum += static_cast<double>(state[c]) * weights[c];
    return static_cast<float>(sum);
  }

  const BertConfig& config_;
  const BertWeights& weights_;
  const std::span<const ForwardSlice> slices_;
  BertWorkspace& workspace_;
  const kernels::ExecutionContext execution_;
  const kernels::KvPageLayout layout_;

  int64_t rows_ = 0;
  // Into the workspace.
  float* stream_ = nullptr;
  float* qkv_ = nullptr;
  float* attended_ = nullptr;
  float* units_ = nullptr;
  float* activated_ = nullptr;
};

absl::Status CheckSlice(const BertConfig& config, size_t index, const ForwardSlice& slice) {
  const SliceLimits limits{config.vocab, config.context_length, static_cast<int>(config.layers)};
  LECTERN_RETURN_IF_ERROR(CheckSliceTokens(limits, index, slice));
  LECTERN_RETURN_IF_ERROR(CheckSlicePolicy(limits, index, slice));
  if (!slice.encode || slice.position != 0) {
    return BadSlice(index, "encode", "an encoder reads one whole window, from position 0");
  }
  const bool wants_spans = slice.span_begins != nullptr || slice.span_ends != nullptr;
  if (wants_spans && !config.reads_spans) {
    return BadSlice(index, "span_begins", "the model has no scores for where answers begin");
  }
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Workspace> BertModel::NewWorkspace() const {
  return std::make_unique<BertWorkspace>();
}

absl::Status BertModel::Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const {
  for (size_t i = 0; i < slices.size(); ++i) {
    LECTERN_RETURN_IF_ERROR(CheckSlice(config_, i, slices[i]));
  }
  auto* scratch = dynamic_cast<BertWorkspace*>(&workspace);
  if (scratch == nullptr) {
    return absl::InvalidArgumentError("workspace: was made by a model of another family");
  }
  if (slices.empty()) return absl::OkStatus();
  try {
    return BertForward(config_, *weights_, execution_, slices, *scratch).Run();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the activations of this batch");
  }
}

}  // namespace lectern
