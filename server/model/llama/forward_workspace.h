// Scratch memory of the Llama forward pass. Grows to the largest call and is then reused, so that a
// call of a size seen before allocates nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"
#include "server/model/layers/policy_attention.h"
#include "server/model/model.h"

namespace lectern {

// Not thread-safe: one per calling thread. T = stacked tokens of a call.
struct LlamaWorkspace : public Workspace {
  std::vector<ForwardSlice> slices;  // of the call, some in another order
  std::vector<int32_t> tokens;       // [T]
  AlignedBuffer<float> stream;       // [T, hidden]: the residual stream
  AlignedBuffer<float> normed;       // [T, hidden]
  AlignedBuffer<float> qkv;          // [T, (heads + 2 kv_heads) * head_dim]
  AlignedBuffer<float> attended;     // [T, heads * head_dim]
  AlignedBuffer<float> gate_up;      // [T, 2, intermediate]
  AlignedBuffer<float> activated;    // [T, intermediate]
  AlignedBuffer<float> head_input;   // [rows with logits, hidden]
  AlignedBuffer<float> head_output;  // [rows with logits, vocabulary]
  std::vector<int64_t> first_row;    // per slice: its first row in the buffers above
  std::vector<PolicyAttentionCall> attention_calls;  // per slice, within one layer
  PolicyAttention attention;
};

}  // namespace lectern
