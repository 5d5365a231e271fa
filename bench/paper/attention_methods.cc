#include "bench/paper/attention_methods.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "bench/paper/inputs.h"
#include "kernels/attention/topk_attention.h"
#include "tests/kernels/attention/paged_sequence.h"

namespace lectern::bench {
namespace {

float Scale(const Shape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

// Scaled scores of queries [first, first + rows), those of later keys -inf: [heads, rows, tokens].
at::Tensor Scores(const Shape& shape, const at::Tensor& q, const at::Tensor& k, int64_t first) {
  const int64_t rows = q.size(1);
  at::Tensor scores = at::bmm(q.mul(Scale(shape)), k.transpose(1, 2));
  const at::Tensor hidden =
      at::ones({rows, k.size(1)}, at::TensorOptions().dtype(at::kBool)).triu_(first + 1);
  scores.masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  return scores;
}

// Section 1.3 of docs/specs/topk_attention_and_ff.md: one buffer is score and weight matrix.
at::Tensor NaiveTopK(const Shape& shape, at::Tensor scores, const at::Tensor& v) {
  at::Tensor values, index;
  std::tie(values, index) =
      at::topk(scores, std::min(shape.kept, v.size(1)), -1, /*largest=*/true, /*sorted=*/false);
  scores.zero_().scatter_(-1, index, at::softmax(values, -1));
  return at::bmm(scores, v);
}

at::Tensor AttendInChunks(Method method, const Shape& shape, const at::Tensor& q,
                          const at::Tensor& k, const at::Tensor& v) {
  const int64_t tokens = q.size(1);
  at::Tensor out = at::empty({tokens, q.size(0), v.size(2)}, q.options()).transpose(0, 1);
  for (int64_t first = 0; first < tokens; first += shape.chunk) {
    const int64_t rows = std::min(shape.chunk, tokens - first);
    at::Tensor scores = Scores(shape, q.narrow(1, first, rows), k, first);
    if (method == Method::kNaiveTopK) {
      out.narrow(1, first, rows).copy_(NaiveTopK(shape, std::move(scores), v));
    } else {
      at::softmax_out(scores, scores, -1);
      out.narrow(1, first, rows).copy_(at::bmm(scores, v));
    }
  }
  return out;
}

class AtenAttention : public Workload {
 public:
  AtenAttention(Method method, const Shape& shape)
      : method_(method),
        shape_(shape),
        q_(Make(Input::kQuery)),
        k_(Make(Input::kKey)),
        v_(Make(Input::kValue)) {}

  void Run() override {
    const c10::InferenceMode inference;
    out_ = at::Tensor();
    out_ = Attend(method_, shape_, q_, k_, v_).transpose(0, 1).contiguous();
  }
  std::span<const float> Result() const override {
    return {out_.data_ptr<float>(), static_cast<size_t>(out_.numel())};
  }

 private:
  at::Tensor Make(Input input) const {
    at::Tensor tensor = at::empty({shape_.heads, shape_.tokens, shape_.head_dim}, at::kFloat);
    std::vector<float> row(shape_.Width());
    for (int64_t t = 0; t < shape_.tokens; ++t) {
      FillRow(input, t, shape_.Width(), 1.0f, row.data());
      for (int h = 0; h < shape_.heads; ++h) {
        std::copy_n(row.data() + h * shape_.head_dim, shape_.head_dim,
                    tensor.data_ptr<float>() + (h * shape_.tokens + t) * shape_.head_dim);
      }
    }
    return tensor;
  }

  const Method method_;
  const Shape shape_;
  const at::Tensor q_, k_, v_;
  at::Tensor out_;
};

class PagedAttention : public Workload {
 public:
  explicit PagedAttention(const Shape& shape)
      : shape_(shape),
        q_(std::make_unique_for_overwrite<float[]>(shape.tokens * shape.Width())),
        pages_({shape.pages, 1, shape.heads, shape.head_dim, shape.head_dim}, shape.tokens) {
    const int64_t width = shape.Width();
    FillRows(Input::kQuery, shape.tokens, width, 1.0f, q_.get());
    std::vector<float> key(width), value(width);
    for (int64_t t = 0; t < shape.tokens; ++t) {
      FillRow(Input::kKey, t, width, 1.0f, key.data());
      FillRow(Input::kValue, t, width, 1.0f, value.data());
      Require(pages_.Append(0, t, 1, key.data(), value.data()));
    }
  }

  void Run() override {
    out_.reset();
    out_ = std::make_unique_for_overwrite<float[]>(shape_.tokens * shape_.Width());
    AttendPaged(shape_, q_.get(), pages_.layout(), pages_.Table(shape_.tokens), 0, out_.get());
  }
  std::span<const float> Result() const override {
    return {out_.get(), static_cast<size_t>(shape_.tokens * shape_.Width())};
  }

 private:
  const Shape shape_;
  const std::unique_ptr<float[]> q_;
  kernels::PagedSequence pages_;
  std::unique_ptr<float[]> out_;
};

}  // namespace

at::Tensor Attend(Method method, const Shape& shape, const at::Tensor& q, const at::Tensor& k,
                  const at::Tensor& v) {
  if (method == Method::kSdpa) {
    return at::scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0),
                                            /*attn_mask=*/{}, /*dropout_p=*/0.0,
                                            /*is_causal=*/true)
        .squeeze(0);
  }
  if (method == Method::kPlain) return at::bmm(at::softmax(Scores(shape, q, k, 0), -1), v);
  return AttendInChunks(method, shape, q, k, v);
}

void AttendPaged(const Shape& shape, const float* q, const kernels::KvPageLayout& layout,
                 const kernels::KvPageTable& table, int layer, float* out) {
  const int64_t width = shape.Width();
  const kernels::ExecutionContext context{.num_threads = shape.threads};
  for (int64_t first = 0; first < shape.tokens; first += shape.chunk) {
    const kernels::AttentionArgs args{.q = q + first * width,
                                      .q_stride = width,
                                      .rows = std::min(shape.chunk, shape.tokens - first),
                                      .num_q_heads = shape.heads,
                                      .q_offset = first,
                                      .layout = layout,
                                      .table = table,
                                      .layer = layer,
                                      .scale = Scale(shape),
                                      .out = out + first * width,
                                      .out_stride = width};
    Require(kernels::TopKAttention({&args, 1}, {.k = shape.kept}, context));
  }
}

std::unique_ptr<Workload> MakeAttention(Method method, const Shape& shape) {
  if (method == Method::kOurs) return std::make_unique<PagedAttention>(shape);
  if (method == Method::kOursDense) {
    Shape all_keys = shape;
    all_keys.kept = 0;
    return std::make_unique<PagedAttention>(all_keys);
  }
  return std::make_unique<AtenAttention>(method, shape);
}

}  // namespace lectern::bench
