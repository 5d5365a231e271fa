// The operations of a decoder's forward pass, as one processor computes them.
//
// The pass (forward_pass.cc) decides what is computed, in which order; an implementation has the
// model's weights in a form of its choice and owns every buffer between two operations. Nothing of
// a buffer is read on the host between operations, so an implementation may queue its work and
// complete it in Finish. CpuDecoderOperations is the implementation for the CPU.
//
// Buffers of a call, T = tokens of all slices, stacked:
//   x         [T, hidden]: the residual stream
//   qkv       [T, heads + 2 kv_heads, head_dim]: queries, keys and values
//   attended  [T, heads, head_dim]
//   gate_up   [T, 2, intermediate]
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/ffn/ffn_activation.h"
#include "server/model/model.h"

namespace lectern {

// The attention of one layer (DecoderLayer).
struct AttentionSettings {
  double scale = 0;
  int64_t window = 0;
  double score_cap = 0;
  // Adds the attention of every key to the slices' ForwardSlice::key_mass.
  bool key_mass = false;
};

// The work of one thread that calls Model::Forward; not thread-safe. A call is Begin, operations in
// the order of the formula, Finish. Results of a row depend on that row, its slice's pages and its
// policy alone. `norm` is an RMSNorm where the layer has one, else nothing; biases are added where
// there are any. Errors are INTERNAL: a kernel failed.
class DecoderOperations {
 public:
  virtual ~DecoderOperations() = default;

  // Stacks the tokens of the slices in order and makes room for them. The slices and what they
  // refer to outlive Finish. May throw std::bad_alloc.
  virtual absl::Status Begin(std::span<const ForwardSlice> slices) = 0;
  // Continues with the first `slices` slices only.
  virtual void Truncate(size_t slices) = 0;

  // x = factor * rows of the embedding table
  virtual absl::Status Embed(double factor) = 0;
  // qkv = norm(x) W + b
  virtual absl::Status ProjectQkv(int layer) = 0;
  // Normalises queries and keys where the layer has q and k norms, rotates them by the table
  // DecoderConfig::ropes[rope] (-1: not), and writes keys and values to the slices' pages.
  virtual absl::Status RotateAndWriteKv(int layer, int rope) = 0;
  // attended = softmax(cap(scale * q k^T)) v over the visible keys that each slice's policy keeps
  virtual absl::Status Attend(int layer, const AttentionSettings& settings) = 0;
  // x += factor * norm(attended W + b)
  virtual absl::Status AddAttention(int layer, double factor) = 0;
  // gate_up = norm(x) W + b
  virtual absl::Status ProjectGateUp(int layer) = 0;
  // x += factor * norm((activation(gate) * up) W + b), with the units that each slice's policy
  // keeps
  virtual absl::Status AddFeedForward(int layer, kernels::FfnActivation activation,
                                      double factor) = 0;
  // Writes cap(factor * (norm(x) W)) to the outputs of the slices that ask for logits;
  // cap(l) = cap * tanh(l / cap), or l where cap is 0.
  virtual absl::Status Logits(double factor, double cap) = 0;

  // Completes all operations: the slices' outputs and pages are written.
  virtual absl::Status Finish() = 0;

  // Copies the residual stream, or its final norm, to `values` [T, hidden]. For tests.
  virtual absl::Status ReadStream(bool final_norm, std::vector<float>& values) = 0;
};

}  // namespace lectern
