// The operations of a decoder's forward pass on the CPU, by kernels/.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/rows/rope.h"
#include "server/model/decoder/decoder_config.h"
#include "server/model/decoder/decoder_operations.h"
#include "server/model/decoder/decoder_weights.h"
#include "server/model/layers/policy_attention.h"

namespace lectern {

// The model that the operations compute, which outlives them.
struct CpuDecoder {
  const DecoderConfig& config;
  const DecoderWeights& weights;
  std::span<const kernels::RopeTable> ropes;  // of DecoderConfig::ropes
  kernels::KvPageLayout layout;
  kernels::ExecutionContext execution;
};

// Buffers grow to the largest call and are then reused.
class CpuDecoderOperations : public DecoderOperations {
 public:
  explicit CpuDecoderOperations(const CpuDecoder& decoder) : decoder_(decoder) {}

  absl::Status Begin(std::span<const ForwardSlice> slices) override;
  void Truncate(size_t slices) override;
  absl::Status Embed(double factor) override;
  absl::Status ProjectQkv(int layer) override;
  absl::Status RotateAndWriteKv(int layer, int rope) override;
  absl::Status Attend(int layer, const AttentionSettings& settings) override;
  absl::Status AddAttention(int layer, double factor) override;
  absl::Status ProjectGateUp(int layer) override;
  absl::Status AddFeedForward(int layer, kernels::FfnActivation activation, double factor) override;
  absl::Status Logits(double factor, double cap) override;
  absl::Status Finish() override { return absl::OkStatus(); }  // nothing is ever pending
  absl::Status ReadStream(bool final_norm, std::vector<float>& values) override;

 private:
  int64_t hidden() const { return decoder_.config.hidden; }
  int64_t query_width() const { return decoder_.config.heads * decoder_.config.head_dim; }
  int64_t key_width() const { return decoder_.config.kv_heads * decoder_.config.head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * key_width(); }

  kernels::ExecutionContext ThreadsFor(int64_t values) const;
  absl::Status Project(const Linear& layer, const float* x, int64_t rows, float* y) const;
  template <typename Multiply>
  absl::Status AddBranch(const std::vector<float>& post_norm, double factor,
                         const Multiply& multiply);
  kernels::AttentionArgs ArgsOf(size_t slice, int layer, const AttentionSettings& settings) const;
  absl::Status KeepUnits(kernels::FfnActivation activation);
  absl::Status LastLogits(int64_t rows, double factor, double cap);
  absl::Status Head(const float* x, int64_t rows, double factor, double cap, float* logits);

  const CpuDecoder decoder_;

  std::span<const ForwardSlice> slices_;
  int64_t rows_ = 0;                // stacked tokens
  bool cuts_units_ = false;         // a slice asks for ffn_top_k
  std::vector<int32_t> tokens_;     // [T]
  std::vector<int64_t> first_row_;  // for each slice: its first row in the buffers below
  AlignedBuffer<float> stream_;
  AlignedBuffer<float> qkv_;
  AlignedBuffer<float> attended_;
  AlignedBuffer<float> gate_up_;
  AlignedBuffer<float> activated_;    // [T, intermediate]; only where units are cut
  AlignedBuffer<float> branch_;       // [T, hidden]; only where a branch is normalised or scaled
  AlignedBuffer<float> head_input_;   // [rows with logits, hidden]
  AlignedBuffer<float> head_output_;  // [rows with logits, vocabulary]
  std::vector<PolicyAttentionCall> attention_calls_;  // for each slice, within one layer
  PolicyAttention attention_;
};

}  // namespace lectern
