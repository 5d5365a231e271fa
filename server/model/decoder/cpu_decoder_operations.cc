// All tokens of all slices are stacked for the linear layers; attention runs slice by slice, over
// each slice's own pages.
#include "server/model/decoder/cpu_decoder_operations.h"

#include <algorithm>

#include "base/status_macros.h"
#include "kernels/ffn/activate.h"
#include "kernels/rows/add_scaled.h"
#include "kernels/rows/cap_rows.h"
#include "kernels/rows/rms_norm.h"
#include "server/model/kernel_status.h"
#include "server/model/layers/ffn_policy.h"

namespace lectern {
namespace {

// Below this many values a parallel loop costs more than it saves.
constexpr int64_t kSmallWork = 1 << 14;

int64_t RowsOf(const ForwardSlice& slice) { return static_cast<int64_t>(slice.tokens.size()); }

}  // namespace

kernels::ExecutionContext CpuDecoderOperations::ThreadsFor(int64_t values) const {
  kernels::ExecutionContext execution = decoder_.execution;
  if (values < kSmallWork) execution.num_threads = 1;
  return execution;
}

absl::Status CpuDecoderOperations::Begin(std::span<const ForwardSlice> slices) {
  slices_ = slices;
  first_row_.clear();
  tokens_.clear();
  for (const ForwardSlice& slice : slices_) {
    first_row_.push_back(static_cast<int64_t>(tokens_.size()));
    tokens_.insert(tokens_.end(), slice.tokens.begin(), slice.tokens.end());
  }
  rows_ = static_cast<int64_t>(tokens_.size());
  cuts_units_ = std::any_of(slices_.begin(), slices_.end(),
                            [](const auto& slice) { return slice.policy->ffn_top_k > 0; });
  stream_.Reserve(rows_ * hidden());
  qkv_.Reserve(rows_ * qkv_width());
  attended_.Reserve(rows_ * query_width());
  gate_up_.Reserve(rows_ * 2 * decoder_.config.intermediate);
  if (cuts_units_) activated_.Reserve(rows_ * decoder_.config.intermediate);
  return absl::OkStatus();
}

void CpuDecoderOperations::Truncate(size_t slices) {
  rows_ = slices < slices_.size() ? first_row_[slices] : rows_;
  slices_ = slices_.first(slices);
}

absl::Status CpuDecoderOperations::Embed(double factor) {
  return decoder_.weights.Embed(tokens_, static_cast<float>(factor), stream_.data());
}

// y = norm(x) W + b
absl::Status CpuDecoderOperations::Project(const Linear& layer, const float* x, int64_t rows,
                                           float* y) const {
  if (layer.has_norm()) return layer.RunNormed(x, rows, y, decoder_.execution);
  return layer.Run(x, rows, y, /*accumulate=*/false, decoder_.execution);
}

absl::Status CpuDecoderOperations::ProjectQkv(int layer) {
  return Project(decoder_.weights.blocks[layer].qkv, stream_.data(), rows_, qkv_.data());
}

absl::Status CpuDecoderOperations::RotateAndWriteKv(int layer, int rope) {
  const DecoderBlock& block = decoder_.weights.blocks[layer];
  const bool norms = !block.q_norm.empty();
  for (size_t i = 0; i < slices_.size(); ++i) {
    const ForwardSlice& slice = slices_[i];
    const kernels::QkvRows rows{
        .qkv = qkv_.data() + first_row_[i] * qkv_width(),
        .stride = qkv_width(),
        .num_q_heads = static_cast<int>(decoder_.config.heads),
        .q_norm = norms ? block.q_norm.data() : nullptr,
        .k_norm = norms ? block.k_norm.data() : nullptr,
        .qk_norm_eps = static_cast<float>(decoder_.config.rms_eps),
        .qk_norm_per_head = decoder_.config.layer[layer].qk_norm == QkNorm::kHead,
        .rope = rope < 0 ? nullptr : &decoder_.ropes[rope],
        .hadamard = decoder_.weights.qk_hadamard()};
    LECTERN_RETURN_IF_ERROR(FromKernel(
        kernels::RotateAndWriteKv(decoder_.layout, slice.pages.data(), layer, slice.position,
                                  RowsOf(slice), rows, decoder_.execution),
        "rotate_and_write_kv"));
  }
  return absl::OkStatus();
}

kernels::AttentionArgs CpuDecoderOperations::ArgsOf(size_t slice, int layer,
                                                    const AttentionSettings& settings) const {
  const ForwardSlice& of = slices_[slice];
  const int64_t row = first_row_[slice];
  kernels::AttentionArgs args;
  args.q = qkv_.data() + row * qkv_width();
  args.q_stride = qkv_width();
  args.rows = RowsOf(of);
  args.num_q_heads = static_cast<int>(decoder_.config.heads);
  args.q_offset = of.position;
  args.layout = decoder_.layout;
  args.table = {of.pages.data(), of.position + args.rows};
  args.layer = layer;
  args.scale = static_cast<float>(settings.scale);
  args.score_cap = static_cast<float>(settings.score_cap);
  args.window = settings.window;
  args.out = const_cast<float*>(attended_.data()) + row * query_width();
  args.out_stride = query_width();
  if (settings.key_mass) args.key_mass = of.key_mass;
  return args;
}

absl::Status CpuDecoderOperations::Attend(int layer, const AttentionSettings& settings) {
  attention_calls_.clear();
  for (size_t i = 0; i < slices_.size(); ++i) {
    attention_calls_.push_back(
        {ArgsOf(i, layer, settings), slices_[i].policy, slices_[i].kept_mass});
  }
  return attention_.Run(attention_calls_, layer, decoder_.execution);
}

// x += factor * norm(y), where multiply(y, accumulate) computes y.
template <typename Multiply>
absl::Status CpuDecoderOperations::AddBranch(const std::vector<float>& post_norm, double factor,
                                             const Multiply& multiply) {
  if (post_norm.empty() && factor == 1) return multiply(stream_.data(), /*accumulate=*/true);
  float* const branch = branch_.Reserve(rows_ * hidden());
  LECTERN_RETURN_IF_ERROR(multiply(branch, /*accumulate=*/false));
  if (post_norm.empty()) {
    return FromKernel(kernels::AddScaled(branch, rows_, hidden(), static_cast<float>(factor),
                                         stream_.data(), decoder_.execution),
                      "add_scaled");
  }
  return FromKernel(
      kernels::RmsNormAdd(branch, rows_, hidden(), post_norm.data(),
                          static_cast<float>(decoder_.config.rms_eps), static_cast<float>(factor),
                          stream_.data(), decoder_.execution),
      "rms_norm_add");
}

absl::Status CpuDecoderOperations::AddAttention(int layer, double factor) {
  const DecoderBlock& block = decoder_.weights.blocks[layer];
  return AddBranch(block.attention_post_norm, factor, [&](float* y, bool accumulate) {
    return block.attention_out.Run(attended_.data(), rows_, y, accumulate, decoder_.execution);
  });
}

absl::Status CpuDecoderOperations::ProjectGateUp(int layer) {
  return Project(decoder_.weights.blocks[layer].gate_up, stream_.data(), rows_, gate_up_.data());
}

absl::Status CpuDecoderOperations::AddFeedForward(int layer, kernels::FfnActivation activation,
                                                  double factor) {
  const DecoderBlock& block = decoder_.weights.blocks[layer];
  if (cuts_units_) {
    const int64_t width = decoder_.config.intermediate;
    LECTERN_RETURN_IF_ERROR(
        FromKernel(kernels::Activate(activation, gate_up_.data(), 2 * width,
                                     gate_up_.data() + width, 2 * width, rows_, width,
                                     activated_.data(), width, ThreadsFor(rows_ * width)),
                   "activate"));
    LECTERN_RETURN_IF_ERROR(KeepUnits(activation));
  }
  return AddBranch(block.ffn_post_norm, factor, [&](float* y, bool accumulate) {
    if (cuts_units_) {
      return block.down.Run(activated_.data(), rows_, y, accumulate, decoder_.execution);
    }
    return block.down.RunGated(activation, gate_up_.data(), rows_, y, accumulate,
                               decoder_.execution);
  });
}

// Cuts the feed-forward activations of the slices whose policy asks for it.
absl::Status CpuDecoderOperations::KeepUnits(kernels::FfnActivation activation) {
  const int64_t width = decoder_.config.intermediate;
  for (size_t i = 0; i < slices_.size(); ++i) {
    const int64_t row = first_row_[i], rows = RowsOf(slices_[i]);
    LECTERN_RETURN_IF_ERROR(
        KeepTopUnits(*slices_[i].policy, activation, gate_up_.data() + row * 2 * width, 2 * width,
                     rows, width, activated_.data() + row * width, ThreadsFor(rows * width)));
  }
  return absl::OkStatus();
}

absl::Status CpuDecoderOperations::Head(const float* x, int64_t rows, double factor, double cap,
                                        float* logits) {
  LECTERN_RETURN_IF_ERROR(Project(decoder_.weights.head, x, rows, logits));
  if (factor == 1 && cap == 0) return absl::OkStatus();
  return FromKernel(
      kernels::CapRows(logits, rows, decoder_.config.vocab, static_cast<float>(factor),
                       static_cast<float>(cap), decoder_.execution),
      "cap_rows");
}

absl::Status CpuDecoderOperations::Logits(double factor, double cap) {
  const int64_t vocabulary = decoder_.config.vocab;
  int64_t last_rows = 0;
  float* const head_input = head_input_.Reserve(slices_.size() * hidden());
  for (size_t i = 0; i < slices_.size(); ++i) {
    const ForwardSlice& slice = slices_[i];
    const float* const stream = stream_.data() + first_row_[i] * hidden();
    const float* const last = stream + (RowsOf(slice) - 1) * hidden();
    if (slice.all_logits != nullptr) {
      LECTERN_RETURN_IF_ERROR(Head(stream, RowsOf(slice), factor, cap, slice.all_logits));
      if (slice.logits != nullptr) {
        std::copy_n(slice.all_logits + (RowsOf(slice) - 1) * vocabulary, vocabulary, slice.logits);
      }
    } else if (slice.logits != nullptr) {
      std::copy_n(last, hidden(), head_input + last_rows++ * hidden());
    }
  }
  return LastLogits(last_rows, factor, cap);
}

// The last row of every slice that asked for it alone: one product for all.
absl::Status CpuDecoderOperations::LastLogits(int64_t rows, double factor, double cap) {
  if (rows == 0) return absl::OkStatus();
  const int64_t vocabulary = decoder_.config.vocab;
  float* output = head_output_.Reserve(rows * vocabulary);
  LECTERN_RETURN_IF_ERROR(Head(head_input_.data(), rows, factor, cap, output));
  for (const ForwardSlice& slice : slices_) {
    if (slice.logits == nullptr || slice.all_logits != nullptr) continue;
    std::copy_n(output, vocabulary, slice.logits);
    output += vocabulary;
  }
  return absl::OkStatus();
}

absl::Status CpuDecoderOperations::ReadStream(bool final_norm, std::vector<float>& values) {
  values.assign(stream_.data(), stream_.data() + rows_ * hidden());
  if (!final_norm) return absl::OkStatus();
  const Linear& head = decoder_.weights.head;
  return FromKernel(kernels::RmsNorm(values.data(), rows_, hidden(), head.norm_weight(),
                                     head.norm_epsilon(), values.data(), decoder_.execution),
                    "rms_norm");
}

}  // namespace lectern
