// The forward pass of T5 (Raffel et al. 2020, arXiv 1910.10683): an encoder whose tokens all see
// each other, and a decoder that sees its own past and, in every layer, the encoder's output.
// RMSNorm before each part, unscaled attention with a bias by relative position (none in
// cross-attention), a feed-forward part that may be gated. Attention and feed-forward parts follow
// the slice's policy in the encoder, in the decoder and in cross-attention.
//
// All encoder slices of a call are stacked for the linear layers, then all decoder slices;
// attention runs slice by slice. The outputs of several encoder windows, one after the other, are
// one memory to the decoder (fusion in decoder, Izacard and Grave 2021, arXiv 2007.01282).
#include <algorithm>
#include <new>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "kernels/ffn/activate.h"
#include "kernels/rows/rms_norm.h"
#include "server/model/kernel_status.h"
#include "server/model/layers/ffn_policy.h"
#include "server/model/layers/hadamard_width.h"
#include "server/model/layers/policy_attention.h"
#include "server/model/layers/scratch_pages.h"
#include "server/model/layers/slice_checks.h"
#include "server/model/t5/t5_model.h"

namespace lectern {
namespace {

// Scratch memory of the forward pass. Not thread-safe: one for each calling thread. T = stacked
// tokens.
struct T5Workspace : public Workspace {
  std::vector<const ForwardSlice*> slices;  // of the half that runs
  std::vector<int64_t> first_row;
  std::vector<int32_t> tokens;
  AlignedBuffer<float> stream;      // [T, hidden]
  AlignedBuffer<float> encoded;     // [T, hidden]: the encoder's output
  AlignedBuffer<float> qkv;         // [T, 3, heads, head_dim]
  AlignedBuffer<float> attended;    // [T, heads, head_dim]
  AlignedBuffer<float> units;       // [T, 1 or 2, intermediate]
  AlignedBuffer<float> activated;   // [T, intermediate]
  AlignedBuffer<float> head_input;  // [rows with logits, hidden]
  AlignedBuffer<float> logits;      // [rows with logits, vocabulary]
  ScratchPages pages;               // of one encoder layer
  std::vector<PolicyAttentionCall> calls;
  PolicyAttention attention;
};

// The constants of a call.
struct T5ForwardContext {
  const T5Config& config;
  const T5Weights& weights;
  // Pages of the decoder's own keys and values, and of the memory: num_layers are the decoder's.
  const kernels::KvPageLayout& layout;
  kernels::ExecutionContext execution;
};

// One call of T5Model::Forward: first its encoder slices, then its decoder slices.
class T5Forward {
 public:
  T5Forward(const T5ForwardContext& context, T5Workspace& workspace)
      : context_(context),
        config_(context.config),
        weights_(context.weights),
        workspace_(workspace),
        execution_(context.execution),
        encoder_layout_(context.layout) {
    encoder_layout_.num_layers = 1;
  }

  absl::Status Encode(std::span<const ForwardSlice> slices) {
    LECTERN_RETURN_IF_ERROR(Stack(slices, /*encode=*/true));
    if (rows_ == 0) return absl::OkStatus();
    std::vector<int64_t> sizes;
    for (const ForwardSlice* slice : workspace_.slices) sizes.push_back(Tokens(*slice));
    workspace_.pages.Reserve(encoder_layout_, sizes);
    for (size_t i = 0; i < weights_.encoder.size(); ++i) {
      const T5EncoderLayer& layer = weights_.encoder[i];
      const int number = static_cast<int>(i);
      LECTERN_RETURN_IF_ERROR(SelfAttention(layer.qkv, layer.attention_out, number, number));
      LECTERN_RETURN_IF_ERROR(FeedForward(layer.feed_forward));
    }
    return WriteCrossKv();
  }

  absl::Status Decode(std::span<const ForwardSlice> slices) {
    LECTERN_RETURN_IF_ERROR(Stack(slices, /*encode=*/false));
    if (rows_ == 0) return absl::OkStatus();
    const int layers = static_cast<int>(config_.decoder_layers);
    const int first = static_cast<int>(config_.encoder_layers);
    for (int i = 0; i < layers; ++i) {
      const T5DecoderLayer& layer = weights_.decoder[i];
      LECTERN_RETURN_IF_ERROR(SelfAttention(layer.qkv, layer.attention_out, i, first + i));
      LECTERN_RETURN_IF_ERROR(CrossAttention(layer, i, first + layers + i));
      LECTERN_RETURN_IF_ERROR(FeedForward(layer.feed_forward));
    }
    return Logits();
  }

 private:
  int64_t hidden() const { return config_.hidden; }
  int64_t inner() const { return config_.heads * config_.head_dim; }
  static int64_t Tokens(const ForwardSlice& slice) {
    return static_cast<int64_t>(slice.tokens.size());
  }

  absl::Status Stack(std::span<const ForwardSlice> slices, bool encode) {
    encodes_ = encode;
    workspace_.slices.clear();
    workspace_.first_row.clear();
    workspace_.tokens.clear();
    for (const ForwardSlice& slice : slices) {
      if (slice.encode != encode) continue;
      workspace_.slices.push_back(&slice);
      workspace_.first_row.push_back(static_cast<int64_t>(workspace_.tokens.size()));
      workspace_.tokens.insert(workspace_.tokens.end(), slice.tokens.begin(), slice.tokens.end());
    }
    rows_ = static_cast<int64_t>(workspace_.tokens.size());
    stream_ = workspace_.stream.Reserve(rows_ * hidden());
    qkv_ = workspace_.qkv.Reserve(rows_ * 3 * inner());
    attended_ = workspace_.attended.Reserve(rows_ * inner());
    const int64_t factors = config_.gated ? 2 : 1;
    units_ = workspace_.units.Reserve(rows_ * factors * config_.intermediate);
    activated_ = workspace_.activated.Reserve(rows_ * config_.intermediate);
    return weights_.Embed(workspace_.tokens, stream_);
  }

  absl::Status Rotate(float* x, int64_t heads, int64_t stride) const {
    return RotateHeads(context_.layout, x, rows_, heads, stride, execution_);
  }

  // `layer` is the layer's number in the pages, `policy_layer` the one in the policy.
  absl::Status SelfAttention(const Linear& qkv, const Linear& out, int layer, int policy_layer) {
    LECTERN_RETURN_IF_ERROR(qkv.RunNormed(stream_, rows_, qkv_, execution_));
    LECTERN_RETURN_IF_ERROR(Rotate(qkv_, 2 * config_.heads, 3 * inner()));
    const kernels::KvPageLayout& layout = encodes_ ? encoder_layout_ : context_.layout;
    if (encodes_) layer = 0;  // every layer reuses the pages
    workspace_.calls.clear();
    for (size_t i = 0; i < workspace_.slices.size(); ++i) {
      const ForwardSlice& slice = *workspace_.slices[i];
      float* rows = qkv_ + workspace_.first_row[i] * 3 * inner();
      std::byte* const* pages = encodes_ ? workspace_.pages.Of(i) : slice.pages.data();
      const int64_t position = encodes_ ? 0 : slice.position;
      LECTERN_RETURN_IF_ERROR(
          FromKernel(kernels::WriteKv(layout, pages, layer, position, Tokens(slice), rows + inner(),
                                      3 * inner(), rows + 2 * inner(), 3 * inner(), execution_),
                     "write_kv"));
      kernels::AttentionArgs args = ArgsOf(i, rows, 3 * inner());
      args.q_offset = position;
      args.layout = layout;
      args.table = {pages, position + Tokens(slice)};
      args.layer = layer;
      args.causal = !encodes_;
      const RelativeBias& bias = encodes_ ? *weights_.encoder_bias : *weights_.decoder_bias;
      args.bias = bias.At(position);
      args.bias_head_stride = bias.head_stride();
      args.bias_row_stride = -1;
      workspace_.calls.push_back({args, slice.policy, slice.kept_mass});
    }
    LECTERN_RETURN_IF_ERROR(workspace_.attention.Run(workspace_.calls, policy_layer, execution_));
    return out.Run(attended_, rows_, stream_, /*accumulate=*/true, execution_);
  }

  absl::Status CrossAttention(const T5DecoderLayer& weights, int layer, int policy_layer) {
    LECTERN_RETURN_IF_ERROR(weights.cross_query.RunNormed(stream_, rows_, qkv_, execution_));
    LECTERN_RETURN_IF_ERROR(Rotate(qkv_, config_.heads, inner()));
    workspace_.calls.clear();
    for (size_t i = 0; i < workspace_.slices.size(); ++i) {
      const ForwardSlice& slice = *workspace_.slices[i];
      kernels::AttentionArgs args = ArgsOf(i, qkv_ + workspace_.first_row[i] * inner(), inner());
      args.layout = context_.layout;
      args.table = {slice.memory.data(), slice.memory_tokens};
      args.layer = layer;
      args.causal = false;
      args.key_mass = slice.key_mass;
      workspace_.calls.push_back({args, slice.policy, slice.kept_mass});
    }
    LECTERN_RETURN_IF_ERROR(workspace_.attention.Run(workspace_.calls, policy_layer, execution_));
    return weights.cross_out.Run(attended_, rows_, stream_, /*accumulate=*/true, execution_);
  }

  kernels::AttentionArgs ArgsOf(size_t slice, const float* q, int64_t q_stride) const {
    kernels::AttentionArgs args;
    args.q = q;
    args.q_stride = q_stride;
    args.rows = Tokens(*workspace_.slices[slice]);
    args.num_q_heads = static_cast<int>(config_.heads);
    args.out = attended_ + workspace_.first_row[slice] * inner();
    args.out_stride = inner();
    return args;
  }

  absl::Status FeedForward(const T5FeedForward& weights) {
    const int64_t width = config_.intermediate;
    const int64_t stride = config_.gated ? 2 * width : width;
    const kernels::FfnActivation activation = config_.activation;
    LECTERN_RETURN_IF_ERROR(weights.in.RunNormed(stream_, rows_, units_, execution_));
    LECTERN_RETURN_IF_ERROR(FromKernel(
        kernels::Activate(activation, units_, stride, config_.gated ? units_ + width : nullptr,
                          stride, rows_, width, activated_, width, execution_),
        "activate"));
    for (size_t i = 0; i < workspace_.slices.size(); ++i) {
      const int64_t row = workspace_.first_row[i];
      const ForwardSlice& slice = *workspace_.slices[i];
      LECTERN_RETURN_IF_ERROR(KeepTopUnits(*slice.policy, activation, units_ + row * stride, stride,
                                           Tokens(slice), width, activated_ + row * width,
                                           execution_));
    }
    return weights.out.Run(activated_, rows_, stream_, /*accumulate=*/true, execution_);
  }

  // Makes the encoder's output, and writes its keys and values for every layer of the decoder to
  // the slices' pages.
  absl::Status WriteCrossKv() {
    float* encoded = workspace_.encoded.Reserve(rows_ * hidden());
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::RmsNorm(stream_, rows_, hidden(), weights_.encoder_norm.data(),
                                    static_cast<float>(config_.rms_eps), encoded, execution_),
                   "rms_norm"));
    for (size_t i = 0; i < workspace_.slices.size(); ++i) {
      const ForwardSlice& slice = *workspace_.slices[i];
      if (slice.encoded == nullptr) continue;
      std::copy_n(encoded + workspace_.first_row[i] * hidden(), Tokens(slice) * hidden(),
                  slice.encoded);
    }
    const bool has_decoder =
        std::any_of(workspace_.slices.begin(), workspace_.slices.end(),
                    [](const ForwardSlice* slice) { return !slice->pages.empty(); });
    for (size_t layer = 0; has_decoder && layer < weights_.decoder.size(); ++layer) {
      LECTERN_RETURN_IF_ERROR(weights_.decoder[layer].cross_key_value.Run(
          encoded, rows_, qkv_, /*accumulate=*/false, execution_));
      LECTERN_RETURN_IF_ERROR(Rotate(qkv_, config_.heads, 2 * inner()));
      for (size_t i = 0; i < workspace_.slices.size(); ++i) {
        const ForwardSlice& slice = *workspace_.slices[i];
        if (slice.pages.empty()) continue;
        const float* rows = qkv_ + workspace_.first_row[i] * 2 * inner();
        LECTERN_RETURN_IF_ERROR(
            FromKernel(kernels::WriteKv(context_.layout, slice.pages.data(),
                                        static_cast<int>(layer), slice.position, Tokens(slice),
                                        rows, 2 * inner(), rows + inner(), 2 * inner(), execution_),
                       "write_kv"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Logits() {
    for (size_t i = 0; i < workspace_.slices.size(); ++i) {
      const ForwardSlice& slice = *workspace_.slices[i];
      if (slice.all_logits == nullptr) continue;
      LECTERN_RETURN_IF_ERROR(weights_.head.RunNormed(stream_ + workspace_.first_row[i] * hidden(),
                                                      Tokens(slice), slice.all_logits, execution_));
    }
    // The last row of every slice that asks for it: one product for all.
    int64_t rows = 0;
    float* head_input = workspace_.head_input.Reserve(workspace_.slices.size() * hidden());
    for (size_t i = 0; i < workspace_.slices.size(); ++i) {
      const ForwardSlice& slice = *workspace_.slices[i];
      if (slice.logits == nullptr) continue;
      const int64_t last = workspace_.first_row[i] + Tokens(slice) - 1;
      std::copy_n(stream_ + last * hidden(), hidden(), head_input + rows++ * hidden());
    }
    if (rows == 0) return absl::OkStatus();
    float* logits = workspace_.logits.Reserve(rows * config_.vocab);
    LECTERN_RETURN_IF_ERROR(weights_.head.RunNormed(head_input, rows, logits, execution_));
    for (const ForwardSlice* slice : workspace_.slices) {
      if (slice->logits == nullptr) continue;
      std::copy_n(logits, config_.vocab, slice->logits);
      logits += config_.vocab;
    }
    return absl::OkStatus();
  }

  const T5ForwardContext& context_;
  const T5Config& config_;
  const T5Weights& weights_;
  T5Workspace& workspace_;
  const kernels::ExecutionContext execution_;
  kernels::KvPageLayout encoder_layout_;

  bool encodes_ = false;
  int64_t rows_ = 0;
  // Into the workspace.
  float* stream_ = nullptr;
  float* qkv_ = nullptr;
  float* attended_ = nullptr;
  float* units_ = nullptr;
  float* activated_ = nullptr;
};

absl::Status CheckSlice(const T5Config& config, size_t index, const ForwardSlice& slice) {
  SliceLimits limits{config.vocab, kMaxT5Window,
                     static_cast<int>(config.encoder_layers + 2 * config.decoder_layers)};
  const auto tokens = static_cast<int64_t>(slice.tokens.size());
  // A window's place in the memory is not a position within the window.
  if (slice.encode) limits.context_length += slice.position;
  LECTERN_RETURN_IF_ERROR(CheckSliceTokens(limits, index, slice));
  LECTERN_RETURN_IF_ERROR(CheckSlicePolicy(limits, index, slice));
  if (!slice.encode || !slice.pages.empty()) {
    LECTERN_RETURN_IF_ERROR(CheckSlicePages(index, "pages", slice.pages, slice.position + tokens));
  }
  if (slice.encode) return absl::OkStatus();
  if (slice.memory_tokens < 1) return BadSlice(index, "memory_tokens", "must be at least 1");
  return CheckSlicePages(index, "memory", slice.memory, slice.memory_tokens);
}

}  // namespace

std::unique_ptr<Workspace> T5Model::NewWorkspace() const { return std::make_unique<T5Workspace>(); }

absl::Status T5Model::Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const {
  for (size_t i = 0; i < slices.size(); ++i) {
    LECTERN_RETURN_IF_ERROR(CheckSlice(config_, i, slices[i]));
  }
  auto* scratch = dynamic_cast<T5Workspace*>(&workspace);
  if (scratch == nullptr) {
    return absl::InvalidArgumentError("workspace: was made by a model of another family");
  }
  const T5ForwardContext context{config_, *weights_, layout_, execution_};
  try {
    T5Forward forward(context, *scratch);
    LECTERN_RETURN_IF_ERROR(forward.Encode(slices));
    return forward.Decode(slices);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the activations of this batch");
  }
}

}  // namespace lectern
