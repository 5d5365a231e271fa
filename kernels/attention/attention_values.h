// Sums over rows of values, and running softmax sums. Include it as simd.h.
#pragma once

#include "kernels/attention/attention_scores.h"
#include "kernels/attention/attention_task.h"
#include "kernels/runtime/simd_exp.h"

namespace lectern::kernels::internal {
namespace {

inline SoftmaxSum Fold(SoftmaxSum a, SoftmaxSum b, float factor) {
  if (b.max == -kInfinity) return a;
  if (a.max == -kInfinity) return b;
  const float max = a.max > b.max ? a.max : b.max;
  return {max,
          a.sum * Exp2Scalar((a.max - max) * factor) + b.sum * Exp2Scalar((b.max - max) * factor)};
}

inline float LargestOf(const float* x, int64_t count) {
  Floats largest = Load(x);
  for (int64_t i = kLanes; i < count; i += kLanes) largest = Max(Load(x + i), largest);
  return LargestLane(largest);
}

// out += weight * value row of a token.
inline void AddValue(const AttentionTask& task, const PageView& page, int slot, float weight,
                     float* out) {
  const int d = task.args->layout.value_dim;
  int c = 0;
  if (task.args->layout.type == KvType::kF32) {
    const float* row = page.Get<float>(page.at.values) + static_cast<int64_t>(slot) * d;
    for (; c + kLanes <= d; c += kLanes)
      Store(out + c, Load(out + c) + Set(weight) * Load(row + c));
    for (; c < d; ++c) out[c] += weight * row[c];
    return;
  }
  const int8_t* row = page.Get<int8_t>(page.at.values) + static_cast<int64_t>(slot) * d;
  const float scale = page.Get<float>(page.at.value_scale)[slot];
  const Floats w = Set(weight * scale);
  for (; c + kLanes <= d; c += kLanes) Store(out + c, Load(out + c) + w * LoadInt8(row + c));
  for (; c < d; ++c) out[c] += weight * scale * static_cast<float>(row[c]);
}

// out = sum of (weight - less) * value over the kept keys, with the sums in registers, for
// value_dim = kVectors * kLanes.
template <KvType kType, int kVectors>
inline void AddKeptValues(const AttentionTask& task, const KvHeadLayout& at, const Candidates& c,
                          float less, float* out) {
  constexpr int kDim = kVectors * kLanes;
  const AttentionArgs& a = *task.args;
  const std::byte* const* pages = a.table.pages;
  const size_t offset = HeadOffset(a.layout, at, a.layer, task.kv_head);
  Floats sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = Floats{};
  for (int64_t i = 0; i < c.count; ++i) {
    const uint32_t index = static_cast<uint32_t>(c.index[i]);
    const std::byte* page = pages[index / kPageTokens] + offset;
    const uint32_t slot = index % kPageTokens;
    if constexpr (kType == KvType::kI8) {
      const int8_t* row = reinterpret_cast<const int8_t*>(page + at.values) + slot * kDim;
      const float scale = reinterpret_cast<const float*>(page + at.value_scale)[slot];
      const Floats w = Set((c.weight[i] - less) * scale);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v] += w * LoadInt8(row + v * kLanes);
    } else {
      const float* row = reinterpret_cast<const float*>(page + at.values) + slot * kDim;
      const Floats w = Set(c.weight[i] - less);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v] += w * Load(row + v * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(out + v * kLanes, sum[v]);
}

// Starts loading what AddKeptValues will read.
inline void PrefetchKeptValues(const AttentionTask& task, const KvHeadLayout& at,
                               const Candidates& c) {
  const AttentionArgs& a = *task.args;
  const size_t offset = HeadOffset(a.layout, at, a.layer, task.kv_head);
  const bool int8 = a.layout.type == KvType::kI8;
  const size_t row_bytes = a.layout.value_dim * (int8 ? 1 : sizeof(float));
  for (int64_t i = 0; i < c.count; ++i) {
    const std::byte* page = a.table.pages[c.index[i] / kPageTokens] + offset;
    const std::byte* row = page + at.values + c.index[i] % kPageTokens * row_bytes;
    for (size_t byte = 0; byte < row_bytes; byte += 64) __builtin_prefetch(row + byte);
    if (int8) __builtin_prefetch(page + at.value_scale + c.index[i] % kPageTokens * sizeof(float));
  }
}

inline void AddKept(const AttentionTask& task, const KvHeadLayout& at, const Candidates& c,
                    float less, float* out) {
  const KvPageLayout& layout = task.args->layout;
  constexpr int kFast = 64 / kLanes;
  if (layout.value_dim == 64 && kFast <= 8) {
    return layout.type == KvType::kI8 ? AddKeptValues<KvType::kI8, kFast>(task, at, c, less, out)
                                      : AddKeptValues<KvType::kF32, kFast>(task, at, c, less, out);
  }
  for (int i = 0; i < layout.value_dim; ++i) out[i] = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    AddValue(task, ViewPage(task, at, c.index[i] / kPageTokens),
             static_cast<int>(c.index[i] % kPageTokens), c.weight[i] - less, out);
  }
}

inline bool SimplyCausal(const AttentionArgs& a) {
  return a.window <= 0 && a.bias == nullptr && a.key_padding == nullptr;
}

// sum = values of the first `end` keys; it holds those of the first `have` already, unless 0.
// Always the same additions, in order from the start of the last page.
inline void SumValues(const AttentionTask& task, const KvHeadLayout& at, int64_t have, int64_t end,
                      float* sum) {
  const int d = task.args->layout.value_dim;
  if (end == 0) {
    for (int c = 0; c < d; ++c) sum[c] = 0;
    return;
  }
  const int64_t page = (end - 1) / kPageTokens;
  const PageView view = ViewPage(task, at, page);
  if (have <= page * kPageTokens) {
    have = page * kPageTokens;
    const float* prefix = view.Get<float>(at.value_prefix);
    for (int c = 0; c < d; ++c) sum[c] = prefix[c];
  }
  for (; have < end; ++have) {
    AddValue(task, view, static_cast<int>(have % kPageTokens), 1.0f, sum);
  }
}

// Sums the values that one query sees through window, padding and bias, page by page of those that
// its row sees; `scores` is scratch of a page.
void SumVisibleValues(const AttentionTask& task, const AttentionScratch& s, int64_t query,
                      float* scores, float* sum) {
  const KvHeadLayout at = HeadLayout(task.args->layout);
  const int d = task.args->layout.value_dim;
  for (int c = 0; c < d; ++c) sum[c] = 0;
  const int64_t group = task.args->num_q_heads / task.args->layout.num_kv_heads;
  const PageRange seen = VisiblePages(*task.args, task.first_row + query / group, 1);
  for (int64_t p = seen.first; p < seen.end; ++p) {
    for (int j = 0; j < kPageTokens; ++j) scores[j] = 0;
    if (MaskScores(task, s, query, p * kPageTokens, scores) == 0) continue;
    const PageView view = ViewPage(task, at, p);
    for (int j = 0; j < kPageTokens; ++j) {
      if (scores[j] != -kInfinity) AddValue(task, view, j, 1.0f, sum);
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::internal
