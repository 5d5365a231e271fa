#include "bench/paper/check_methods.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "bench/paper/inputs.h"

namespace lectern::bench {
namespace {

constexpr Method kMethods[] = {Method::kPlain,     Method::kChunked, Method::kSdpa,
                               Method::kNaiveTopK, Method::kOurs,    Method::kOursDense};

double RoundingOfSum(int64_t terms) { return 6 * std::sqrt(static_cast<double>(terms)) * 0x1p-24; }

// The expected result of one row.
struct Expected {
  std::vector<double> out;
  double tolerance = 0;
  bool tie = false;
};

std::vector<float> Rows(Input input, int64_t rows, int64_t width, float scale) {
  std::vector<float> all(rows * width);
  FillRows(input, rows, width, scale, all.data());
  return all;
}

double Dot(const float* a, const float* b, int64_t n) {
  return std::inner_product(a, a + n, b, 0.0, std::plus<>(),
                            [](double x, double y) { return x * y; });
}
double Norm(const float* a, int64_t n) { return std::sqrt(Dot(a, a, n)); }

// The indices of the k largest scores first; the distance to the next one.
double SelectFirst(const std::vector<double>& score, int64_t k, std::vector<int64_t>& order) {
  order.resize(score.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return score[a] > score[b]; });
  if (k >= static_cast<int64_t>(order.size())) return std::numeric_limits<double>::infinity();
  const double gap = score[order[k - 1]] - score[order[k]];
  order.resize(k);
  return gap;
}

// Row `row`, head `head` of attention with the `kept` largest scores.
class AttentionReference {
 public:
  explicit AttentionReference(const Shape& shape)
      : shape_(shape),
        q_(Rows(Input::kQuery, shape.tokens, shape.Width(), 1.0f)),
        k_(Rows(Input::kKey, shape.tokens, shape.Width(), 1.0f)),
        v_(Rows(Input::kValue, shape.tokens, shape.Width(), 1.0f)) {}

  Expected Row(int64_t row, int head, int64_t kept) const {
    const int dim = shape_.head_dim;
    const auto at = [&](const std::vector<float>& all, int64_t token) {
      return all.data() + token * shape_.Width() + head * dim;
    };
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    std::vector<double> score(row + 1);
    double off = 0;  // rounding of the scores
    for (int64_t j = 0; j <= row; ++j) {
      score[j] = scale * Dot(at(q_, row), at(k_, j), dim);
      off = std::max(
          off, RoundingOfSum(dim + 2) * scale * Norm(at(q_, row), dim) * Norm(at(k_, j), dim));
    }
    std::vector<int64_t> order;
    Expected expected{.out = std::vector<double>(dim)};
    expected.tie = SelectFirst(score, kept, order) <= 2 * off;
    double sum = 0, largest = 0;
    for (const int64_t j : order) sum += std::exp(score[j] - score[order[0]]);
    for (const int64_t j : order) {
      const double weight = std::exp(score[j] - score[order[0]]) / sum;
      for (int c = 0; c < dim; ++c) {
        expected.out[c] += weight * at(v_, j)[c];
        largest = std::max(largest, std::abs(static_cast<double>(at(v_, j)[c])));
      }
    }
    // Weights are off by a factor of at most e^(2 off); two sums, of weights and of values.
    expected.tolerance = (std::expm1(2 * off) + 2 * RoundingOfSum(row + 1)) * largest;
    return expected;
  }

 private:
  const Shape shape_;
  const std::vector<float> q_, k_, v_;
};

class FeedForwardReference {
 public:
  explicit FeedForwardReference(const Shape& shape)
      : shape_(shape),
        x_(Rows(Input::kTokens, shape.tokens, shape.Width(), 1.0f)),
        up_(Rows(Input::kUp, shape.units, shape.Width(),
                 1.0f / std::sqrt(static_cast<float>(shape.Width())))),
        down_(Rows(Input::kDown, shape.units, shape.Width(),
                   1.0f / std::sqrt(static_cast<float>(shape.units)))) {}

  Expected Row(int64_t row, int64_t kept) const {
    const int64_t width = shape_.Width();
    const float* x = x_.data() + row * width;
    std::vector<double> z(shape_.units);
    double off = 0;
    for (int64_t u = 0; u < shape_.units; ++u) {
      const float* up = up_.data() + u * width;
      z[u] = Dot(x, up, width);
      off = std::max(off, RoundingOfSum(width) * Norm(x, width) * Norm(up, width));
    }
    std::vector<int64_t> order;
    Expected expected{.out = std::vector<double>(width)};
    expected.tie = SelectFirst(z, kept, order) <= 2 * off;
    std::vector<double> tolerance(width);
    for (const int64_t u : order) {
      const double hidden = std::max(z[u], 0.0);
      const float* down = down_.data() + u * width;
      for (int64_t c = 0; c < width; ++c) {
        expected.out[c] += hidden * down[c];
        tolerance[c] += (off + RoundingOfSum(kept) * hidden) * std::abs(down[c]);
      }
    }
    expected.tolerance = *std::max_element(tolerance.begin(), tolerance.end());
    return expected;
  }

 private:
  const Shape shape_;
  const std::vector<float> x_, up_, down_;
};

void Compare(const float* row, const Expected& expected, Agreement& agreement) {
  if (expected.tie) {
    ++agreement.ties;
    return;
  }
  ++agreement.rows;
  for (size_t c = 0; c < expected.out.size(); ++c) {
    const double error = std::abs(row[c] - expected.out[c]) / expected.tolerance;
    // A NaN counts as an error.
    agreement.largest_error = error <= agreement.largest_error ? agreement.largest_error : error;
  }
}

Agreement Conclude(Agreement agreement) {
  agreement.ok =
      agreement.largest_error <= 1 && agreement.rows >= 9 * agreement.ties && agreement.rows > 0;
  return agreement;
}

bool Selects(Method method) { return method == Method::kNaiveTopK || method == Method::kOurs; }

void CheckAttention(int threads, std::vector<Agreement>& all) {
  const Shape shape{.tokens = 200, .heads = 3, .chunk = 64, .kept = 16, .threads = threads};
  const AttentionReference reference(shape);
  for (const Method method : kMethods) {
    const auto workload = MakeWorkload(Experiment::kAttention, method, shape);
    workload->Run();
    Agreement agreement{Experiment::kAttention, method};
    for (int64_t row = 0; row < shape.tokens; ++row) {
      for (int head = 0; head < shape.heads; ++head) {
        const float* out = workload->Result().data() + row * shape.Width() + head * shape.head_dim;
        Compare(out, reference.Row(row, head, Selects(method) ? shape.kept : shape.tokens),
                agreement);
      }
    }
    all.push_back(Conclude(agreement));
  }
}

void CheckFeedForward(int threads, std::vector<Agreement>& all) {
  const Shape shape{
      .tokens = 100, .heads = 3, .chunk = 64, .kept = 64, .units = 400, .threads = threads};
  const FeedForwardReference reference(shape);
  for (const Method method : kMethods) {
    if (!Offers(Experiment::kFeedForward, method)) continue;
    const auto workload = MakeWorkload(Experiment::kFeedForward, method, shape);
    workload->Run();
    Agreement agreement{Experiment::kFeedForward, method};
    for (int64_t row = 0; row < shape.tokens; ++row) {
      Compare(workload->Result().data() + row * shape.Width(),
              reference.Row(row, Selects(method) ? shape.kept : shape.units), agreement);
    }
    all.push_back(Conclude(agreement));
  }
}

void CheckLayers(int threads, std::vector<Agreement>& all) {
  const Shape shape{.tokens = 150,
                    .heads = 3,
                    .chunk = 64,
                    .kept = 150,
                    .layers = 2,
                    .units = 400,
                    .ffn_chunk = 100,
                    .threads = threads};
  const auto plain = MakeWorkload(Experiment::kLayers, Method::kPlain, shape);
  plain->Run();
  const std::span<const float> expected = plain->Result();
  double largest = 0;
  for (const float x : expected) largest = std::max(largest, std::abs(static_cast<double>(x)));
  // A layer's longest sum has `units` terms; a layer at most doubles the error of its input,
  // through the residual stream and the normed branch.
  const double tolerance = std::ldexp(1.0, shape.layers) * RoundingOfSum(shape.units) * largest;
  for (const Method method : kMethods) {
    if (!Offers(Experiment::kLayers, method)) continue;
    const auto workload = MakeWorkload(Experiment::kLayers, method, shape);
    workload->Run();
    Agreement agreement{Experiment::kLayers, method};
    for (int64_t row = 0; row < shape.tokens; ++row) {
      const float* at = expected.data() + row * shape.Width();
      Compare(workload->Result().data() + row * shape.Width(),
              {std::vector<double>(at, at + shape.Width()), tolerance}, agreement);
    }
    all.push_back(Conclude(agreement));
  }
}

}  // namespace

std::vector<Agreement> CheckMethods(int threads) {
  std::vector<Agreement> all;
  CheckAttention(threads, all);
  CheckLayers(threads, all);
  CheckFeedForward(threads, all);
  return all;
}

}  // namespace lectern::bench
