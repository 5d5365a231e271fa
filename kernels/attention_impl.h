// The attention kernels themselves, once for every instruction set: included by
// attention_portable.cc, attention_avx2.cc and attention_avx512.cc, which set the compiler flags
// and LECTERN_ISA_*.
#pragma once

#include "kernels/attention_isa.h"
#include "kernels/attention_scores.h"
#include "kernels/attention_select.h"
#include "kernels/attention_simd.h"

namespace lectern::kernels::internal {
namespace {

// Running softmax sum of one query over a span.
struct RunningSum {
  Vec sum;
  float max;
};

// Adds one page; leaves e^(s - max) in `scores` when asked to. Returns the factor by which what was
// summed before has shrunk.
inline float AddPage(RunningSum& r, float* scores, bool keep_exponentials) {
  Vec largest = Load(scores);
  for (int v = kWidth; v < kPageTokens; v += kWidth) largest = Max(largest, Load(scores + v));
  float shrink = 1.0f;
  if (MaskGreater(largest, Set(r.max)) != 0) {
    const float page_max = LargestLane(largest);
    shrink = ExpScalar(r.max - page_max);
    r.sum *= Set(shrink);
    r.max = page_max;
  }
  // Before any visible key the maximum is -inf, and -inf - -inf is not a number.
  const Vec max = Set(r.max == -kInfinity ? 0.0f : r.max);
  Vec sum = r.sum;
  for (int v = 0; v < kPageTokens; v += kWidth) {
    const Vec e = Exp(Load(scores + v) - max);
    sum += e;
    if (keep_exponentials) Store(scores + v, e);
  }
  r.sum = sum;
  return shrink;
}

inline SoftmaxSum Fold(SoftmaxSum a, SoftmaxSum b) {
  if (b.max == -kInfinity) return a;
  if (a.max == -kInfinity) return b;
  const float max = a.max > b.max ? a.max : b.max;
  return {max, a.sum * ExpScalar(a.max - max) + b.sum * ExpScalar(b.max - max)};
}

// The pages of a span that any row of the task sees.
struct PageRange {
  int64_t first, end;
};
inline PageRange SpanPages(const AttentionTask& task, int64_t span) {
  const AttentionArgs& a = *task.args;
  const int64_t seen_end = EndVisible(a, task.first_row + task.rows - 1);
  const int64_t seen_first = FirstVisible(a, task.first_row) / kPageTokens;
  const int64_t last_page = (seen_end + kPageTokens - 1) / kPageTokens;
  const int64_t first = span * kSpanPages, end = first + kSpanPages;
  return {first > seen_first ? first : seen_first, end < last_page ? end : last_page};
}

void TopKScan(const AttentionTask& task, int64_t k, bool need_sum, float* scratch,
              Candidates* candidates) {
  const Scratch s = CutScratch(task, scratch);
  const KvHeadLayout at = HeadLayout(task.args->layout);
  const int64_t queries = TaskQueries(task);
  RunningSum running[256];
  for (int64_t span = task.first_span; span < task.end_span; ++span) {
    for (int64_t q = 0; q < queries; ++q) running[q] = {Vec{}, -kInfinity};
    const PageRange pages = SpanPages(task, span);
    for (int64_t p = pages.first; p < pages.end; ++p) {
      ScorePage(task, s, ViewPage(task, at, p));
      for (int64_t q = 0; q < queries; ++q) {
        float* scores = s.scores + q * kPageTokens;
        const int64_t visible = MaskScores(task, q, p * kPageTokens, scores);
        if (visible == 0) continue;
        candidates[q].visible += visible;
        Absorb(candidates[q], k, p * kPageTokens, scores);
        if (need_sum) AddPage(running[q], scores, false);
      }
    }
    if (!need_sum) continue;
    for (int64_t q = 0; q < queries; ++q) {
      candidates[q].spans[span - task.first_span] = {running[q].max, Sum(running[q].sum)};
    }
  }
}

// out += weight * value row of a token; plain += the row itself.
inline void AddValue(const AttentionTask& task, const PageView& page, int slot, float weight,
                     float* out, float* plain) {
  const int d = task.args->layout.value_dim;
  int c = 0;
  if (task.args->layout.type == KvType::kF32) {
    const float* row = page.Get<float>(page.at.values) + static_cast<int64_t>(slot) * d;
    for (; c + kWidth <= d; c += kWidth) {
      const Vec v = Load(row + c);
      Store(out + c, Load(out + c) + Set(weight) * v);
      if (plain != nullptr) Store(plain + c, Load(plain + c) + v);
    }
    for (; c < d; ++c) {
      out[c] += weight * row[c];
      if (plain != nullptr) plain[c] += row[c];
    }
    return;
  }
  const int8_t* row = page.Get<int8_t>(page.at.values) + static_cast<int64_t>(slot) * d;
  const float scale = page.Get<float>(page.at.value_scale)[slot];
  const Vec w = Set(weight * scale), one = Set(scale);
  for (; c + kWidth <= d; c += kWidth) {
    const Vec v = LoadInt8(row + c);
    Store(out + c, Load(out + c) + w * v);
    if (plain != nullptr) Store(plain + c, Load(plain + c) + one * v);
  }
  for (; c < d; ++c) {
    const float v = static_cast<float>(row[c]);
    out[c] += weight * scale * v;
    if (plain != nullptr) plain[c] += scale * v;
  }
}

// The same over all kept keys with the sums in registers, for value_dim = kVectors * kWidth.
template <int kVectors>
inline void AddValuesInt8(const AttentionTask& task, const KvHeadLayout& at, const Candidates& c,
                          float* out, float* plain) {
  Vec weighted[kVectors] = {}, sum[kVectors] = {};
  constexpr int kDim = kVectors * kWidth;
  for (int64_t i = 0; i < c.count; ++i) {
    const PageView page = ViewPage(task, at, c.index[i] / kPageTokens);
    const int slot = c.index[i] % kPageTokens;
    const int8_t* row = page.Get<int8_t>(at.values) + slot * kDim;
    const float scale = page.Get<float>(at.value_scale)[slot];
    const Vec w = Set(c.weight[i] * scale), one = Set(scale);
    for (int v = 0; v < kVectors; ++v) {
      const Vec x = LoadInt8(row + v * kWidth);
      weighted[v] += w * x;
      sum[v] += one * x;
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    Store(out + v * kWidth, weighted[v]);
    Store(plain + v * kWidth, sum[v]);
  }
}

inline void AddValues(const AttentionTask& task, const KvHeadLayout& at, const Candidates& c,
                      float* out, float* plain) {
  const int d = task.args->layout.value_dim;
  constexpr int kFast = 64 / kWidth;
  if (task.args->layout.type == KvType::kI8 && d == 64) {
    AddValuesInt8<kFast>(task, at, c, out, plain);
    return;
  }
  for (int i = 0; i < d; ++i) out[i] = plain[i] = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    AddValue(task, ViewPage(task, at, c.index[i] / kPageTokens),
             static_cast<int>(c.index[i] % kPageTokens), c.weight[i], out, plain);
  }
}

inline bool SimplyCausal(const AttentionArgs& a) {
  return a.window <= 0 && a.bias == nullptr && a.key_padding == nullptr;
}

// Sum of the values of the first `end` keys.
void SumValues(const AttentionTask& task, const KvHeadLayout& at, int64_t end, float* sum) {
  const int d = task.args->layout.value_dim;
  for (int c = 0; c < d; ++c) sum[c] = 0;
  if (end == 0) return;
  const int64_t page = (end - 1) / kPageTokens;
  const PageView view = ViewPage(task, at, page);
  const float* prefix = view.Get<float>(at.value_prefix);
  for (int c = 0; c < d; ++c) sum[c] = prefix[c];
  const int slots = static_cast<int>(end - page * kPageTokens);
  for (int slot = 0; slot < slots; ++slot) AddValue(task, view, slot, 1.0f, sum, nullptr);
}

// The same over what one query sees through window, padding and bias.
void SumVisibleValues(const AttentionTask& task, const KvHeadLayout& at, int64_t query,
                      float* scores, float* sum) {
  const int d = task.args->layout.value_dim;
  for (int c = 0; c < d; ++c) sum[c] = 0;
  const int64_t last = (task.args->table.num_tokens + kPageTokens - 1) / kPageTokens;
  for (int64_t p = 0; p < last; ++p) {
    for (int j = 0; j < kPageTokens; ++j) scores[j] = 0;
    if (MaskScores(task, query, p * kPageTokens, scores) == 0) continue;
    const PageView view = ViewPage(task, at, p);
    for (int j = 0; j < kPageTokens; ++j) {
      if (scores[j] != -kInfinity) AddValue(task, view, j, 1.0f, sum, nullptr);
    }
  }
}

// Turns scores into e^(s - max) in `weight`; returns their sum.
inline float Exponentials(Candidates& c, float max) {
  PadScores(c);
  Vec sum = {};
  for (int64_t i = 0; i < c.count; i += kWidth) {
    const Vec e = Exp(Load(c.score + i) - Set(max));
    Store(c.weight + i, e);
    sum += e;
  }
  return Sum(sum);
}

inline float LargestScore(const Candidates& c) {
  float max = -kInfinity;
  for (int64_t i = 0; i < c.count; ++i) max = c.score[i] > max ? c.score[i] : max;
  return max;
}

void FinishQuery(const AttentionTask& task, const TopKParams& params, int64_t query,
                 int64_t num_spans, const Scratch& s, Candidates& c, float* key_mass) {
  const AttentionArgs& a = *task.args;
  const KvHeadLayout at = HeadLayout(a.layout);
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  const int64_t row = task.first_row + query / group;
  const int64_t head = task.kv_head * group + query % group;
  const int d = a.layout.value_dim;
  float* out = a.out + row * a.out_stride + head * d;
  float* mass = a.kept_mass == nullptr ? nullptr : a.kept_mass + row * a.num_q_heads + head;
  if (c.count > params.k) Prune(c, params.k, true);
  if (c.count == 0) {
    for (int i = 0; i < d; ++i) out[i] = 0;
    if (mass != nullptr) *mass = 0;
    return;
  }
  const float max = LargestScore(c);
  const float kept = Exponentials(c, max);
  const int64_t dropped = c.visible - c.count;
  float total = kept;
  if (dropped > 0 && num_spans > 0) {
    SoftmaxSum all = {-kInfinity, 0};
    for (int64_t i = 0; i < num_spans; ++i) all = Fold(all, c.spans[i]);
    const float full = all.sum * ExpScalar(all.max - max);
    total = full > kept ? full : kept;
  }
  const float share = kept / total;
  const bool mean = params.tail == Tail::kMean && dropped > 0;
  const float divisor = 1.0f / (mean ? total : kept);
  const float mass_divisor = 1.0f / total;
  for (int64_t i = 0; i < c.count; ++i) {
    if (key_mass != nullptr) key_mass[c.index[i]] += c.weight[i] * mass_divisor;
    c.weight[i] *= divisor;
  }
  float* plain = s.values;  // the page buffer is free by now
  float* weighted = s.values + d;
  AddValues(task, at, c, weighted, plain);
  if (mean) {
    float* all_values = s.value_sum;
    if (!SimplyCausal(a)) {
      SumVisibleValues(task, at, query, s.scores + query * kPageTokens, s.values + 2 * d);
      all_values = s.values + 2 * d;
    }
    const float tail = (1.0f - share) / static_cast<float>(dropped);
    for (int i = 0; i < d; ++i) weighted[i] += tail * (all_values[i] - plain[i]);
  }
  for (int i = 0; i < d; ++i) out[i] = weighted[i];
  if (mass != nullptr) *mass = share;
}

void TopKFinish(const AttentionTask& task, const TopKParams& params, int64_t row, int64_t num_spans,
                float* scratch, Candidates* candidates, float* key_mass) {
  const AttentionArgs& a = *task.args;
  const Scratch s = CutScratch(task, scratch);
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  if (params.tail == Tail::kMean && SimplyCausal(a)) {
    const int64_t end = EndVisible(a, task.first_row + row);
    SumValues(task, HeadLayout(a.layout), end > 0 ? end : 0, s.value_sum);
  }
  for (int64_t h = 0; h < group; ++h) {
    FinishQuery(task, params, row * group + h, num_spans, s, candidates[h], key_mass);
  }
}

// Values of a page as floats in scratch. Not inlined: inside DenseScan its pointers were spilled
// and reloaded for every vector.
__attribute__((noinline)) void LoadValues(const AttentionTask& task, const PageView& page,
                                          int64_t tokens, float* values) {
  const int d = task.args->layout.value_dim;
  if (task.args->layout.type == KvType::kF32) {
    std::memcpy(values, page.Get<float>(page.at.values), sizeof(float) * d * tokens);
  } else {
    const int8_t* rows = page.Get<int8_t>(page.at.values);
    const float* scale = page.Get<float>(page.at.value_scale);
    for (int64_t j = 0; j < tokens; ++j) {
      int c = 0;
      for (; c + kWidth <= d; c += kWidth)
        Store(values + j * d + c, LoadInt8(rows + j * d + c) * Set(scale[j]));
      for (; c < d; ++c) values[j * d + c] = scale[j] * static_cast<float>(rows[j * d + c]);
    }
  }
  // Slots behind the last token may hold anything; their weight is 0, and 0 * NaN is not.
  for (int64_t i = tokens * d; i < static_cast<int64_t>(kPageTokens) * d; ++i) values[i] = 0;
}

// out[q] += sum over 64 keys of weight[q][key] * values[key], for kQueries queries.
template <int kQueries>
inline void WeighValues(const float* weight, const float* values, int d, float* const* out) {
  constexpr int kVectors = kWidth == 16 ? 4 : 2;
  int c = 0;
  for (; c + kVectors * kWidth <= d; c += kVectors * kWidth) {
    Vec acc[kQueries][kVectors];
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[q][v] = Load(out[q] + c + v * kWidth);
    }
    for (int j = 0; j < kPageTokens; ++j) {
      Vec x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = Load(values + j * d + c + v * kWidth);
#pragma GCC unroll 4
      for (int q = 0; q < kQueries; ++q) {
        const Vec w = Set(weight[q * kPageTokens + j]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) acc[q][v] += w * x[v];
      }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) Store(out[q] + c + v * kWidth, acc[q][v]);
    }
  }
  for (; c < d; ++c) {
    for (int q = 0; q < kQueries; ++q) {
      float sum = out[q][c];
      for (int j = 0; j < kPageTokens; ++j) sum += weight[q * kPageTokens + j] * values[j * d + c];
      out[q][c] = sum;
    }
  }
}

void DenseScan(const AttentionTask& task, float* scratch, DensePartial* partial) {
  const Scratch s = CutScratch(task, scratch);
  const AttentionArgs& a = *task.args;
  const KvHeadLayout at = HeadLayout(a.layout);
  const int64_t queries = TaskQueries(task);
  const int d = a.layout.value_dim;
  RunningSum running[256];
  for (int64_t q = 0; q < queries; ++q) {
    running[q] = {Vec{}, -kInfinity};
    for (int c = 0; c < d; ++c) partial[q].out[c] = 0;
  }
  const PageRange pages = SpanPages(task, task.first_span);
  for (int64_t p = pages.first; p < pages.end; ++p) {
    const PageView view = ViewPage(task, at, p);
    ScorePage(task, s, view);
    const int64_t left = a.table.num_tokens - p * kPageTokens;
    LoadValues(task, view, left < kPageTokens ? left : kPageTokens, s.values);
    for (int64_t q = 0; q < queries; ++q) {
      float* scores = s.scores + q * kPageTokens;
      MaskScores(task, q, p * kPageTokens, scores);
      const float shrink = AddPage(running[q], scores, true);
      if (shrink != 1.0f) {
        for (int c = 0; c < d; ++c) partial[q].out[c] *= shrink;
      }
    }
    int64_t q = 0;
    for (; q + 4 <= queries; q += 4) {
      float* const out[4] = {partial[q].out, partial[q + 1].out, partial[q + 2].out,
                             partial[q + 3].out};
      WeighValues<4>(s.scores + q * kPageTokens, s.values, d, out);
    }
    if (q + 3 == queries) {
      float* const out[3] = {partial[q].out, partial[q + 1].out, partial[q + 2].out};
      WeighValues<3>(s.scores + q * kPageTokens, s.values, d, out);
      q = queries;
    }
    for (; q < queries; ++q) {
      float* const out[1] = {partial[q].out};
      WeighValues<1>(s.scores + q * kPageTokens, s.values, d, out);
    }
  }
  for (int64_t q = 0; q < queries; ++q) partial[q].sum = {running[q].max, Sum(running[q].sum)};
}

void DenseFold(int64_t queries, int64_t value_dim, DensePartial* total, const DensePartial* part) {
  for (int64_t q = 0; q < queries; ++q) {
    DensePartial& t = total[q];
    const DensePartial& p = part[q];
    if (p.sum.max == -kInfinity) continue;
    const float max = t.sum.max > p.sum.max ? t.sum.max : p.sum.max;
    const float keep = t.sum.max == -kInfinity ? 0.0f : ExpScalar(t.sum.max - max);
    const float add = ExpScalar(p.sum.max - max);
    for (int64_t c = 0; c < value_dim; ++c) t.out[c] = t.out[c] * keep + p.out[c] * add;
    t.sum = {max, t.sum.sum * keep + p.sum.sum * add};
  }
}

void DenseKeyMass(const AttentionTask& task, float* scratch, const DensePartial* totals,
                  float* key_mass) {
  const Scratch s = CutScratch(task, scratch);
  const KvHeadLayout at = HeadLayout(task.args->layout);
  const int64_t queries = TaskQueries(task);
  const PageRange pages = SpanPages(task, task.first_span);
  for (int64_t p = pages.first; p < pages.end; ++p) {
    ScorePage(task, s, ViewPage(task, at, p));
    for (int64_t q = 0; q < queries; ++q) {
      float* scores = s.scores + q * kPageTokens;
      if (MaskScores(task, q, p * kPageTokens, scores) == 0) continue;
      const SoftmaxSum total = totals[q].sum;
      for (int j = 0; j < kPageTokens; ++j) {
        if (scores[j] == -kInfinity) continue;
        key_mass[p * kPageTokens + j] += ExpScalar(scores[j] - total.max) / total.sum;
      }
    }
  }
}

constexpr AttentionOps kOps = {Prepare, TopKScan, TopKFinish, DenseScan, DenseFold, DenseKeyMass};

}  // namespace
}  // namespace lectern::kernels::internal
