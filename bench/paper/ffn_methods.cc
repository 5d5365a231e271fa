#include "bench/paper/ffn_methods.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/topk.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "bench/gathered_ffn/gathered_ffn.h"
#include "bench/paper/inputs.h"

namespace lectern::bench {
namespace {

class FeedForward : public Workload {
 public:
  FeedForward(Method method, const Shape& shape)
      : method_(method),
        shape_(shape),
        x_(Make(Input::kTokens, shape.tokens, 1.0f)),
        up_(Make(Input::kUp, shape.units, 1.0f / std::sqrt(static_cast<float>(shape.Width())))),
        down_(Make(Input::kDown, shape.units, 1.0f / std::sqrt(static_cast<float>(shape.units)))) {}

  void Run() override {
    const c10::InferenceMode inference;
    y_ = at::Tensor();
    y_ = at::empty({shape_.tokens, shape_.Width()}, at::kFloat);
    if (method_ == Method::kOurs) return RunKernel();
    const int64_t chunk = method_ == Method::kPlain ? shape_.tokens : shape_.chunk;
    for (int64_t first = 0; first < shape_.tokens; first += chunk) {
      const int64_t rows = std::min(chunk, shape_.tokens - first);
      at::Tensor hidden = at::mm(x_.narrow(0, first, rows), up_.t());
      if (method_ == Method::kNaiveTopK) {
        at::Tensor values, index;
        std::tie(values, index) = at::topk(hidden, std::min(shape_.kept, shape_.units), -1,
                                           /*largest=*/true, /*sorted=*/false);
        hidden.zero_().scatter_(-1, index, values.relu_());
      } else {
        hidden.relu_();
      }
      at::Tensor y = y_.narrow(0, first, rows);
      at::mm_out(y, hidden, down_);
    }
  }
  std::span<const float> Result() const override {
    return {y_.data_ptr<float>(), static_cast<size_t>(y_.numel())};
  }

 private:
  at::Tensor Make(Input input, int64_t rows, float scale) const {
    at::Tensor tensor = at::empty({rows, shape_.Width()}, at::kFloat);
    FillRows(input, rows, shape_.Width(), scale, tensor.data_ptr<float>());
    return tensor;
  }

  void RunKernel() {
    const FeedForwardWeights weights{.width = shape_.Width(),
                                     .units = shape_.units,
                                     .out_width = shape_.Width(),
                                     .gate = up_.data_ptr<float>(),
                                     .down = down_.data_ptr<float>(),
                                     .activation = kernels::FfnActivation::kRelu};
    Require(TopKFeedForward(x_.data_ptr<float>(), shape_.tokens, weights,
                            {.k = shape_.kept, .rank = UnitRank::kPre}, y_.data_ptr<float>(),
                            {.num_threads = shape_.threads}));
  }

  const Method method_;
  const Shape shape_;
  const at::Tensor x_, up_, down_;
  at::Tensor y_;
};

}  // namespace

std::unique_ptr<Workload> MakeFeedForward(Method method, const Shape& shape) {
  return std::make_unique<FeedForward>(method, shape);
}

}  // namespace lectern::bench
