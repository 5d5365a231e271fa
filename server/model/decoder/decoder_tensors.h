// The tensors of a decoder, found by name and checked for shape.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"
#include "server/model/decoder/decoder_config.h"

namespace lectern {

// The tensors of one layer. Matrices are [out, in]. Tensors that the layer's description
// (DecoderLayer) does not name are null.
//
// A file may hold several matrices in one tensor (Phi-3): then each of q, k and v, or gate and up,
// is that tensor, and `*_row` is the first row of its part.
struct DecoderLayerTensors {
  const TensorView* attn_norm = nullptr;       // [hidden]
  const TensorView* attn_post_norm = nullptr;  // [hidden]
  const TensorView* q = nullptr;               // [heads * head_dim, hidden]
  const TensorView* k = nullptr;               // [kv_heads * head_dim, hidden]
  const TensorView* v = nullptr;               // [kv_heads * head_dim, hidden]
  int64_t q_row = 0;
  int64_t k_row = 0;
  int64_t v_row = 0;
  const TensorView* q_bias = nullptr;  // [heads * head_dim], in the order of q's rows; or null
  const TensorView* k_bias = nullptr;  // [kv_heads * head_dim]; or null
  const TensorView* v_bias = nullptr;
  const TensorView* q_norm = nullptr;  // [head_dim] or [heads * head_dim]: QkNorm
  const TensorView* k_norm = nullptr;
  const TensorView* o = nullptr;              // [hidden, heads * head_dim]
  const TensorView* o_bias = nullptr;         // [hidden]; or null
  const TensorView* ffn_norm = nullptr;       // [hidden]
  const TensorView* ffn_post_norm = nullptr;  // [hidden]
  const TensorView* gate = nullptr;           // [intermediate, hidden]
  const TensorView* up = nullptr;             // [intermediate, hidden]
  int64_t gate_row = 0;
  int64_t up_row = 0;
  const TensorView* gate_bias = nullptr;  // [intermediate]; or null
  const TensorView* up_bias = nullptr;
  const TensorView* down = nullptr;       // [hidden, intermediate]
  const TensorView* down_bias = nullptr;  // [hidden]; or null
};

// Views owned by the TensorSource and valid as long as it.
struct DecoderTensors {
  const TensorView* token_embedding = nullptr;  // [vocab, hidden]
  std::vector<DecoderLayerTensors> layers;
  const TensorView* final_norm = nullptr;  // [hidden]
  const TensorView* output = nullptr;      // [vocab, hidden]; the embedding when tied
  // Rows of q and k are in interleaved pairs (2i, 2i + 1), as GGUF files of some architectures have
  // them, instead of half-split pairs (i, i + head_dim / 2), as Hugging Face does and
  // kernels/rows/rope.h expects.
  bool qk_interleaved = false;
};

enum class DecoderNaming {
  kGguf,         // blk.N.attn_q.weight
  kHuggingFace,  // model.layers.N.self_attn.q_proj.weight
};

// INVALID_ARGUMENT naming file and tensor when one is missing or has another shape (the message
// has both). UNIMPLEMENTED for a tensor that the model would not use (a bias that its family does
// not have): ignoring it would give wrong answers silently.
absl::StatusOr<DecoderTensors> FindDecoderTensors(const TensorSource& source,
                                                  const DecoderConfig& config,
                                                  DecoderNaming naming);

// For each row of the half-split form of q (heads = config.heads) or k (kv_heads), the row of the
// interleaved form that holds it. With d = head_dim and r = rotated, the channels that RoPE
// rotates: result[h * d + i] = h * d + 2i and result[h * d + r/2 + i] = h * d + 2i + 1 for i < r/2;
// the other rows stay.
std::vector<int64_t> HalfSplitRows(int64_t heads, int64_t head_dim, int64_t rotated);

}  // namespace lectern
