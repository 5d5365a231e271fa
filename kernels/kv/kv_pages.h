// Pages of keys and values: the KV cache of documents and answers.
//
// A page holds the keys and values of kPageTokens consecutive tokens for *all* layers of one model.
// A sequence is a table of page addresses; token t lives in page t / kPageTokens, slot
// t % kPageTokens. Pages of a document are written once and then shared, read-only, by every
// question about it; a question that starts inside a half-filled page works on its own copy of that
// page (plain memcpy of PageBytes() bytes: a page holds no addresses).
//
// The layout of a page is private to kernels/: keys are stored channel-major so that a
// score tile loads consecutive keys, values row by row. Each page also holds, per layer and KV
// head, the sum of all value rows *before* the page, so that the mean of all visible values costs
// one partial page (topk_attention.h, Tail::kMean), and, once it is full, the range of its keys in
// every channel, so that most pages need not be read (TopKParams::page_budget).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/rows/rope.h"
#include "kernels/runtime/execution_context.h"
#include "kernels/runtime/launch_status.h"

namespace lectern::kernels {

inline constexpr int kPageTokens = 64;

enum class KvType {
  kF32,  // keys and values as computed: the reference
  kI8,   // symmetric int8, one fp32 scale per token and head, for keys and for values
};

// Shape of the pages of one model. Plain data.
struct KvPageLayout {
  KvType type = KvType::kF32;
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;   // of keys (and queries)
  int value_dim = 0;  // of values; equals head_dim in Llama models

  // Bytes of one page, a multiple of 64. Pages must be 64-byte aligned.
  size_t PageBytes() const;
  // Pages that hold `tokens` tokens.
  static int64_t PagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }
};

// A read-only view of a sequence: pages[0 .. PagesFor(num_tokens)).
struct KvPageTable {
  const std::byte* const* pages = nullptr;
  int64_t num_tokens = 0;
};

// Writes keys and values of tokens [position, position + count) of one layer.
//   k  [count, num_kv_heads, head_dim]   RoPE already applied, row stride k_stride floats
//   v  [count, num_kv_heads, value_dim]  row stride v_stride floats
// Tokens must be written in order: [0, position) must have been written for this layer. `pages`
// covers at least position + count tokens. Rewriting the last written tokens with the same values
// is allowed.
LaunchStatus WriteKv(const KvPageLayout& layout, std::byte* const* pages, int layer,
                     int64_t position, int64_t count, const float* k, int64_t k_stride,
                     const float* v, int64_t v_stride, const ExecutionContext& context);

// Rows of a product with the stacked query, key and value weights.
struct QkvRows {
  float* qkv = nullptr;  // [count, num_q_heads + 2 num_kv_heads, head_dim]: queries, keys, values
  int64_t stride = 0;    // floats from row to row
  int num_q_heads = 0;
  // RMSNorms of queries and keys before RoPE, or null (both or none): over the channels of each
  // head, with weights [head_dim], or over all heads, with weights [heads, head_dim].
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  float qk_norm_eps = 0;
  bool qk_norm_per_head = true;
  const RopeTable* rope = nullptr;  // null: positions are not encoded
  int64_t hadamard = 1;  // width of the blocks in which queries and keys are transformed; 1 = none
};

// Applies norms, RoPE and the Hadamard transform to queries and keys in place, then writes keys and
// values as WriteKv does, in one pass over each row. Requires head_dim == value_dim.
LaunchStatus RotateAndWriteKv(const KvPageLayout& layout, std::byte* const* pages, int layer,
                              int64_t position, int64_t count, const QkvRows& rows,
                              const ExecutionContext& context);

}  // namespace lectern::kernels
