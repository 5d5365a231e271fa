#include "bench/paper/layer_stack.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <optional>
#include <vector>

#include "bench/paper/attention_methods.h"
#include "bench/paper/inputs.h"
#include "tests/kernels/attention/paged_sequence.h"

namespace lectern::bench {
namespace {

at::Tensor Normed(const at::Tensor& x) { return at::layer_norm(x, {x.size(1)}); }

class LayerStack : public Workload {
 public:
  LayerStack(Method method, const Shape& shape)
      : method_(method),
        shape_(shape),
        in_(Make(Input::kTokens, shape.tokens, 1.0f)),
        up_(Make(Input::kUp, shape.units, 1.0f / std::sqrt(static_cast<float>(shape.Width())))),
        down_(Make(Input::kDown, shape.units, 1.0f / std::sqrt(static_cast<float>(shape.units)))) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape.Width()));
    const at::Tensor all = Make(Input::kProjection, 4 * shape.Width(), scale);
    for (int i = 0; i < 4; ++i) {
      projection_.push_back(all.narrow(0, i * shape.Width(), shape.Width()));
    }
  }

  void Run() override {
    const c10::InferenceMode inference;
    HoldNothing();
    x_ = in_.clone();
    for (int layer = 0; layer < shape_.layers; ++layer) {
      AddAttention(layer);
      AddFeedForward();
    }
  }
  std::span<const float> Result() const override {
    return {x_.data_ptr<float>(), static_cast<size_t>(x_.numel())};
  }

 private:
  at::Tensor Make(Input input, int64_t rows, float scale) const {
    at::Tensor tensor = at::empty({rows, shape_.Width()}, at::kFloat);
    FillRows(input, rows, shape_.Width(), scale, tensor.data_ptr<float>());
    return tensor;
  }
  at::Tensor PerToken() const { return at::empty({shape_.tokens, shape_.Width()}, at::kFloat); }
  at::Tensor PerHead(const at::Tensor& x) const {
    return x.view({shape_.tokens, shape_.heads, shape_.head_dim}).transpose(0, 1);
  }
  int64_t Step(int64_t chunk) const { return method_ == Method::kPlain ? shape_.tokens : chunk; }

  void HoldNothing() {
    x_ = at::Tensor();
    keys_.clear();
    values_.clear();
    pages_.reset();
    if (method_ == Method::kOurs) {
      const kernels::KvPageLayout layout{shape_.pages, shape_.layers, shape_.heads, shape_.head_dim,
                                         shape_.head_dim};
      pages_.emplace(layout, shape_.tokens);
      for (int64_t i = 0; i < layout.PagesFor(shape_.tokens); ++i) {
        if (pages_->pages()[i] == nullptr) throw std::bad_alloc();
      }
    }
  }

  void AddAttention(int layer) {
    const at::Tensor q = PerToken();
    if (method_ != Method::kOurs) {
      keys_.push_back(PerToken());
      values_.push_back(PerToken());
    }
    const int64_t step = Step(shape_.chunk);
    for (int64_t first = 0; first < shape_.tokens; first += step) {
      Project(layer, first, std::min(step, shape_.tokens - first), q);
    }
    if (method_ == Method::kOurs) {
      const at::Tensor out = PerToken();
      AttendPaged(shape_, q.data_ptr<float>(), pages_->layout(), pages_->Table(shape_.tokens),
                  layer, out.data_ptr<float>());
      x_.addmm_(out, projection_[3]);
    } else {
      const at::Tensor out =
          Attend(method_, shape_, PerHead(q), PerHead(keys_[layer]), PerHead(values_[layer]));
      x_.addmm_(out.transpose(0, 1).reshape({shape_.tokens, shape_.Width()}), projection_[3]);
    }
  }

  void Project(int layer, int64_t first, int64_t rows, const at::Tensor& q) {
    const at::Tensor normed = Normed(x_.narrow(0, first, rows));
    const auto into = [&](const at::Tensor& all, int which) {
      at::Tensor part = all.narrow(0, first, rows);
      at::mm_out(part, normed, projection_[which]);
    };
    into(q, 0);
    if (method_ != Method::kOurs) {
      into(keys_[layer], 1);
      into(values_[layer], 2);
      return;
    }
    const at::Tensor key = at::mm(normed, projection_[1]), value = at::mm(normed, projection_[2]);
    Require(kernels::WriteKv(pages_->layout(), pages_->pages(), layer, first, rows,
                             key.data_ptr<float>(), shape_.Width(), value.data_ptr<float>(),
                             shape_.Width(), {.num_threads = shape_.threads}));
  }

  void AddFeedForward() {
    const int64_t step = Step(shape_.ffn_chunk);
    for (int64_t first = 0; first < shape_.tokens; first += step) {
      at::Tensor x = x_.narrow(0, first, std::min(step, shape_.tokens - first));
      x.addmm_(at::mm(Normed(x), up_.t()).relu_(), down_);
    }
  }

  const Method method_;
  const Shape shape_;
  const at::Tensor in_, up_, down_;
  std::vector<at::Tensor> projection_;  // query, key, value, out: [width, width]
  at::Tensor x_;
  std::vector<at::Tensor> keys_, values_;  // of each layer [tokens, width]
  std::optional<kernels::PagedSequence> pages_;
};

}  // namespace

std::unique_ptr<Workload> MakeLayerStack(Method method, const Shape& shape) {
  return std::make_unique<LayerStack>(method, shape);
}

}  // namespace lectern::bench
