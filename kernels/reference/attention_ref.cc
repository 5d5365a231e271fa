#include "kernels/reference/attention_ref.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/reference/kv_pages_ref.h"

namespace lectern::kernels {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

bool Visible(const AttentionArgs& a, int64_t row, int head, int64_t j) {
  if (a.causal && j > a.q_offset + row) return false;
  if (a.window > 0 && j <= a.q_offset + row - a.window) return false;
  if (a.key_padding != nullptr && a.key_padding[j] != 0) return false;
  return a.bias == nullptr ||
         a.bias[head * a.bias_head_stride + row * a.bias_row_stride + j] != -kInf;
}

}  // namespace

ReferenceRow ReferenceAttention(const AttentionArgs& a, int64_t k, Tail tail, int64_t row,
                                int head) {
  const int64_t n = a.table.num_tokens;
  const int d = a.layout.head_dim, dv = a.layout.value_dim;
  const int kv_head = head / (a.num_q_heads / a.layout.num_kv_heads);
  const float* q = a.q + row * a.q_stride + static_cast<int64_t>(head) * d;
  ReferenceRow r;
  r.out.assign(dv, 0);
  r.score.assign(n, -kInf);
  std::vector<float> key(d), value(dv);
  std::vector<std::vector<float>> values(n);
  std::vector<int64_t> order;
  for (int64_t j = 0; j < n; ++j) {
    if (!Visible(a, row, head, j)) continue;
    if (!Ok(ReadKv(a.layout, a.table, a.layer, kv_head, j, key.data(), value.data()))) continue;
    double dot = 0;
    for (int c = 0; c < d; ++c) dot += static_cast<double>(q[c]) * key[c];
    double s = dot * a.scale;
    if (a.score_cap > 0) s = a.score_cap * std::tanh(s / a.score_cap);
    if (a.bias != nullptr) s += a.bias[head * a.bias_head_stride + row * a.bias_row_stride + j];
    const double largest = std::numeric_limits<float>::max();
    r.score[j] = std::isnan(s) ? -largest : std::clamp(s, -largest, largest);
    values[j] = value;
    order.push_back(j);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t x, int64_t y) { return r.score[x] > r.score[y]; });
  const size_t count = k <= 0 ? order.size() : std::min<size_t>(order.size(), k);
  r.margin = count < order.size() ? r.score[order[count - 1]] - r.score[order[count]] : kInf;
  if (count == 0) return r;
  const double max = r.score[order[0]];
  double kept = 0, all = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const double e = std::exp(r.score[order[i]] - max);
    all += e;
    if (i < count) kept += e;
  }
  r.kept_mass = kept / all;
  const bool mean = tail == Tail::kMean && count < order.size();
  for (size_t i = 0; i < count; ++i) {
    r.kept.push_back(order[i]);
    r.weight.push_back(std::exp(r.score[order[i]] - max) / (mean ? all : kept));
    for (int c = 0; c < dv; ++c) r.out[c] += r.weight[i] * values[order[i]][c];
  }
  for (size_t i = count; mean && i < order.size(); ++i) {
    const double share = (1 - r.kept_mass) / static_cast<double>(order.size() - count);
    for (int c = 0; c < dv; ++c) r.out[c] += share * values[order[i]][c];
  }
  return r;
}

}  // namespace lectern::kernels
