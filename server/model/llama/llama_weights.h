// The weights of a Llama model in the form that one kind of numerics multiplies by. The forward
// pass (forward_pass.h) is the same for all forms. No LibTorch here: an implementation may hide it.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "kernels/kv/kv_pages.h"
#include "kernels/runtime/execution_context.h"

namespace lectern {

// What a form of the weights asks of the forward pass.
struct LlamaNumerics {
  const char* name = "";     // ModelInfo::numerics
  const char* kv_name = "";  // ModelInfo::kv_cache
  kernels::KvType kv_type = kernels::KvType::kF32;
  // Width of the Hadamard blocks applied to queries and keys after RoPE, and to the input of
  // ffn_down; 0 = none. The weights hold the inverse of the latter.
  int64_t qk_hadamard = 0;
  int64_t down_hadamard = 0;
  // MultiplyNormed and MultiplySwiGlu exist.
  bool fuses_inputs = false;
};

// Const after loading; every method may be called from any thread. Activations are fp32, row-major
// and dense. INTERNAL when a product fails.
class LlamaWeights {
 public:
  enum class Matrix {
    kQkv,           // [heads + 2 kv_heads, head_dim] from hidden: query, key, value
    kAttentionOut,  // hidden from [heads, head_dim]
    kGateUp,        // [2, intermediate] from hidden: gate, up
    kDown,          // hidden from intermediate
  };

  // The layer, the rows of the input, and where to run: int8 products heed it, fp32 products always
  // run on the model's threads, since their bits depend on how many there are.
  struct Call {
    int layer = 0;
    int64_t rows = 0;
    kernels::ExecutionContext execution;
  };

  virtual ~LlamaWeights() = default;

  virtual const LlamaNumerics& numerics() const = 0;
  virtual uint64_t bytes() const = 0;  // memory held

  // x [tokens, hidden] = rows of the embedding table. Ids are in range.
  virtual absl::Status Embed(std::span<const int32_t> tokens, float* x) const = 0;
  // y [rows, out] = x [rows, in] W^T, or += with accumulate.
  virtual absl::Status Multiply(Matrix matrix, const Call& call, const float* x, float* y,
                                bool accumulate) const = 0;
  // The same with the norm of x (kQkv, kGateUp; epsilon of the config), or with what ffn_down reads
  // of gate_up [rows, 2, intermediate], as their input; nothing in between is stored.
  virtual absl::Status MultiplyNormed(Matrix /*matrix*/, const Call& /*call*/, const float* /*x*/,
                                      float* /*y*/) const {
    return absl::UnimplementedError("this form of the weights fuses no inputs");
  }
  virtual absl::Status MultiplySwiGlu(const Call& /*call*/, const float* /*gate_up*/, float* /*y*/,
                                      bool /*accumulate*/) const {
    return absl::UnimplementedError("this form of the weights fuses no inputs");
  }
  // logits [rows, vocabulary] of normalised x [rows, hidden]; call.layer does not matter.
  virtual absl::Status Head(const Call& call, const float* x, float* logits) const = 0;

  // Gains of the norms [hidden]; null when they are folded into the matrices.
  virtual const float* AttentionNorm(int layer) const = 0;
  virtual const float* FfnNorm(int layer) const = 0;
  virtual const float* FinalNorm() const = 0;
};

}  // namespace lectern
