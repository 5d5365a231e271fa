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

// out += weight * value row of a token, from channel `first` on.
inline void AddValue(const AttentionTask& task, const PageView& page, int slot, float weight,
                     int first, float* out) {
  const int d = task.args->layout.value_dim;
  int c = first;
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

// Channels [first, first + kVectors * kLanes) of the kept keys' sum of (weight - less) * value,
// with the sums in registers. Each channel's additions are in order of keys, whatever kVectors is.
template <KvType kType, int kVectors>
inline void AddKeptChannels(const AttentionTask& task, const KvHeadLayout& at, const Candidates& c,
                            float less, int first, float* out) {
  const AttentionArgs& a = *task.args;
  const std::byte* const* pages = a.table.pages;
  const size_t offset = HeadOffset(a.layout, at, a.layer, task.kv_head);
  const size_t d = a.layout.value_dim;
  Floats sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = Floats{};
  for (int64_t i = 0; i < c.count; ++i) {
    const uint32_t index = static_cast<uint32_t>(c.index[i]);
    const std::byte* page = pages[index / kPageTokens] + offset;
    const uint32_t slot = index % kPageTokens;
    if constexpr (kType == KvType::kI8) {
      const int8_t* row = reinterpret_cast<const int8_t*>(page + at.values) + slot * d + first;
      const float scale = reinterpret_cast<const float*>(page + at.value_scale)[slot];
      const Floats w = Set((c.weight[i] - less) * scale);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v] += w * LoadInt8(row + v * kLanes);
    } else {
      const float* row = reinterpret_cast<const float*>(page + at.values) + slot * d + first;
      const Floats w = Set(c.weight[i] - less);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v] += w * Load(row + v * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(out + first + v * kLanes, sum[v]);
}

// out = sum of (weight - less) * value over the kept keys: eight vectors of channels at a time,
// then what is left of the row.
template <KvType kType>
inline void AddKeptValues(const AttentionTask& task, const KvHeadLayout& at, const Candidates& c,
                          float less, float* out) {
  const int d = task.args->layout.value_dim;
  int first = 0;
  for (; first + 8 * kLanes <= d; first += 8 * kLanes) {
    AddKeptChannels<kType, 8>(task, at, c, less, first, out);
  }
  for (; first + 4 * kLanes <= d; first += 4 * kLanes) {
    AddKeptChannels<kType, 4>(task, at, c, less, first, out);
  }
  for (; first + 2 * kLanes <= d; first += 2 * kLanes) {
    AddKeptChannels<kType, 2>(task, at, c, less, first, out);
  }
  for (; first + kLanes <= d; first += kLanes) {
    AddKeptChannels<kType, 1>(task, at, c, less, first, out);
  }
  if (first == d) return;
  for (int v = first; v < d; ++v) out[v] = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    const PageView page = ViewPage(task, at, c.index[i] / kPageTokens);
    AddValue(task, page, static_cast<int>(c.index[i] % kPageTokens), c.weight[i] - less, first,
             out);
  }
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
  if (task.args->layout.type == KvType::kI8) {
    AddKeptValues<KvType::kI8>(task, at, c, less, out);
  } else {
    AddKeptValues<KvType::kF32>(task, at, c, less, out);
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
    AddValue(task, view, static_cast<int>(have % kPageTokens), 1.0f, 0, sum);
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
      if (scores[j] != -kInfinity) AddValue(task, view, j, 1.0f, 0, sum);
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::internal
