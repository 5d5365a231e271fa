// Causal self-attention by every method of workload.h: the layer of the paper without its
// projections.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "bench/paper/workload.h"
#include "kernels/kv/kv_pages.h"

namespace lectern::bench {

// Runs the methods of ATen. q, k, v [heads, tokens, head_dim], each head's rows contiguous or with
// a common stride; the result has the same shape, with its memory in [tokens, heads, head_dim].
at::Tensor Attend(Method method, const Shape& shape, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v);

// Runs kernels::TopKAttention, `chunk` queries a call, over all keys if `kept` is 0. q and out
// [tokens, heads, head_dim].
void AttendPaged(const Shape& shape, const float* q, const kernels::KvPageLayout& layout,
                 const kernels::KvPageTable& table, int layer, float* out);

// Makes one layer. Inputs are Q, K and V: matrices [heads, tokens, head_dim] for ATen; Q as
// [tokens, heads, head_dim] and pages (kernels/kv/kv_pages.h) for `kOurs` and `kOursDense`, as the
// server holds them.
std::unique_ptr<Workload> MakeAttention(Method method, const Shape& shape);

}  // namespace lectern::bench
