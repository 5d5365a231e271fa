// The tensors of a Llama-family model, found by name and checked for shape.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/llama/llama_config.h"

namespace lectern {

// Never null after FindLlamaTensors. Matrices are [out, in].
struct LlamaLayerTensors {
  const TensorView* attn_norm = nullptr;  // [hidden]
  const TensorView* q = nullptr;          // [heads * head_dim, hidden]
  const TensorView* k = nullptr;          // [kv_heads * head_dim, hidden]
  const TensorView* v = nullptr;          // [kv_heads * head_dim, hidden]
  const TensorView* o = nullptr;          // [hidden, heads * head_dim]
  const TensorView* ffn_norm = nullptr;   // [hidden]
  const TensorView* gate = nullptr;       // [intermediate, hidden]
  const TensorView* up = nullptr;         // [intermediate, hidden]
  const TensorView* down = nullptr;       // [hidden, intermediate]
};

// Views owned by the TensorSource and valid as long as it.
struct LlamaTensors {
  const TensorView* token_embedding = nullptr;  // [vocab, hidden]
  std::vector<LlamaLayerTensors> layers;
  const TensorView* final_norm = nullptr;  // [hidden]
  const TensorView* output = nullptr;      // [vocab, hidden]; the embedding when tied
  // Rows of q and k are in interleaved pairs (2i, 2i + 1), as GGUF stores them, instead of
  // half-split pairs (i, i + head_dim / 2), as Hugging Face does and kernels/rows/rope.h expects.
  bool qk_interleaved = false;
};

enum class LlamaNaming {
  kGguf,         // blk.N.attn_q.weight
  kHuggingFace,  // model.layers.N.self_attn.q_proj.weight
};

// INVALID_ARGUMENT naming file and tensor when one is missing or has another shape (the message
// has both). UNIMPLEMENTED for a tensor the model would not use (a bias, RoPE factors): ignoring it
// would give wrong answers silently.
absl::StatusOr<LlamaTensors> FindLlamaTensors(const TensorSource& source, const LlamaConfig& config,
                                              LlamaNaming naming);

// For each row of the half-split form of q (heads = config.heads) or k (kv_heads), the row of the
// interleaved form that holds it: result[h * d + i] = h * d + 2i, result[h * d + d/2 + i] = h * d +
// 2i + 1.
std::vector<int64_t> HalfSplitRows(int64_t heads, int64_t head_dim);

}  // namespace lectern
