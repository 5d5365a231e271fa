// The arguments of dense_attention and topk_attention: the queries of one sequence and its paged
// keys.
//
// On kF32 pages scores are fp32. On kI8 pages they are those of the int8 keys with the queries
// rounded to int8 as well, row and head by row and head (exact integer products, then scaled): an
// approximation, off by at most scale * (q_step * |k|_1 + |k|_max / 127 * |q|_1) / 2 and a small
// second-order term per score. q_step is |q|_max / 127; on AVX2, which adds products of channels
// 0, 1, 4, 5 and 2, 3, 6, 7 of every eight in 16 bits, at least a 126th of the largest sum of
// magnitudes of one sign among four such channels (of normally distributed queries some 1.6 times
// as much, at most four times). Values are the stored int8 ones; all sums are fp32, but that dense
// attention rounds weights to 15 bits of the largest in a page and sums them with a page's int8
// values exactly (AVX-512, AVX2).
#pragma once

#include <cstdint>

#include "kernels/kv/kv_pages.h"

namespace lectern::kernels {

// One sequence. Query head h reads KV head h / (num_q_heads / num_kv_heads) (GQA). Row i has
// position q_offset + i. A key j is visible to row i when
//   j < table.num_tokens, and (not causal or j <= q_offset + i),
//   and (window <= 0 or j > q_offset + i - window), and key_padding[j] == 0,
//   and its bias is not -inf.
// All pointers belong to the caller and must outlive the call.
struct AttentionArgs {
  // Queries [rows, num_q_heads, head_dim], row stride q_stride floats; RoPE already applied.
  const float* q = nullptr;
  int64_t q_stride = 0;
  int64_t rows = 0;
  int num_q_heads = 0;
  int64_t q_offset = 0;

  KvPageLayout layout;
  KvPageTable table;
  int layer = 0;

  float scale = 1.0f;  // multiplies q.k before the bias; > 0
  // Scores s = scale * q.k become score_cap * tanh(s / score_cap); 0: they stay. Not with a bias
  // (kUnsupported).
  float score_cap = 0;
  bool causal = true;
  int64_t window = 0;  // sliding window in keys, 0 = none
  // No model of the server sets it; the golden cases do, as it belongs to the specification.
  const uint8_t* key_padding = nullptr;  // [num_tokens], 1 = hidden, or null

  // Additive bias [num_q_heads, rows, num_tokens] with strides in floats (0 broadcasts), added to
  // the scaled score before the selection; or null. -inf hides the key; +inf and NaN are undefined.
  const float* bias = nullptr;
  int64_t bias_head_stride = 0;
  int64_t bias_row_stride = 0;

  // Outputs.
  float* out = nullptr;  // [rows, num_q_heads, value_dim], row stride out_stride floats
  int64_t out_stride = 0;
  float* kept_mass =
      nullptr;  // [rows, num_q_heads]: share of the dense softmax that was kept; or null
  // Adds, for every key, the attention that all rows and heads give to it (dense softmax shares of
  // the kept keys, summed): [num_tokens], or null. The order of summation is fixed.
  float* key_mass = nullptr;
};

}  // namespace lectern::kernels
