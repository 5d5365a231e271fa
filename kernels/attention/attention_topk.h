// Top-k attention for one instruction set: scores of a chunk, selection, softmax sums, the kept
// rows of values. Include it as simd.h.
#pragma once

#include "kernels/attention/attention_page_bounds.h"
#include "kernels/attention/attention_scores.h"
#include "kernels/attention/attention_select.h"
#include "kernels/attention/attention_task.h"
#include "kernels/attention/attention_values.h"
#include "kernels/runtime/simd_exp.h"

namespace lectern::kernels::internal {
namespace {

// The softmax sum over some pages of one query.
inline SoftmaxSum SumOf(const float* scores, const float* maxima, int64_t pages, float factor) {
  const float max = LargestOf(maxima, pages * kGroupsPerPage);
  if (max == -kInfinity) return {max, 0.0f};
  const Floats m = Set(max), f = Set(factor);
  Floats even = {}, odd = {};
  for (int64_t i = 0; i < pages * kPageTokens; i += 2 * kLanes) {
    even += Exp2OrTiny((Load(scores + i) - m) * f);
    odd += Exp2OrTiny((Load(scores + i + kLanes) - m) * f);
  }
  return {max, SumPairwise(even + odd)};
}

// Pages [0, count) of `pages` that are scored together: whole spans, at most chunk_pages.
inline int64_t ChunkOf(const int32_t* pages, int64_t count, int64_t chunk_pages) {
  int64_t taken = 0;
  while (taken < count) {
    int64_t next = taken;
    while (next < count && pages[next] / kSpanPages == pages[taken] / kSpanPages) ++next;
    if (next > chunk_pages) break;
    taken = next;
  }
  return taken;
}

// The softmax sums of one query over the spans of a chunk.
inline void SumSpans(const AttentionTask& task, const AttentionScratch& s, int64_t query,
                     const int32_t* pages, int64_t count, Candidates& c) {
  const float factor = ExponentFactor(task, s, query);
  for (int64_t slot = 0; slot < count;) {
    const int64_t span = pages[slot] / kSpanPages;
    int64_t next = slot;
    while (next < count && pages[next] / kSpanPages == span) ++next;
    c.spans[span - task.first_span] =
        SumOf(s.Scores(query, slot), s.Maxima(query, slot), next - slot, factor);
    slot = next;
  }
}

void TopKScan(const AttentionTask& task, const TopKParams& params, bool need_sum, float* scratch,
              Candidates* candidates) {
  const AttentionScratch s = CutScratch(task, scratch);
  const int64_t queries = TaskQueries(task);
  const PageRange seen = SeenPages(task, task.first_span, task.end_span);
  for (int64_t q = 0; need_sum && q < queries; ++q) {
    for (int64_t span = task.first_span; span < task.end_span; ++span) {
      candidates[q].spans[span - task.first_span] = {-kInfinity, 0.0f};
    }
  }
  int64_t count = ListPages(s, seen);
  int64_t left_out = 0;  // keys that are seen but not read
  if (task.bounds_pages) {
    const int64_t all = count;
    count = ChoosePages(task, s, params, count, candidates);
    left_out = (all - count) * kPageTokens;
  }
  int64_t visible[256];
  for (int64_t first = 0; first < count;) {
    const int32_t* pages = s.pages + first;
    const int64_t chunk = ChunkOf(pages, count - first, task.chunk_pages);
    for (int64_t q = 0; q < queries; ++q) visible[q] = 0;
    ScorePages(task, s, pages, chunk, count - first, visible);
    for (int64_t q = 0; q < queries; ++q) {
      Candidates& c = candidates[q];
      if (visible[q] == 0) continue;
      c.visible += visible[q];
      Absorb(c, params.k, pages, chunk, s.Scores(q, 0), s.Maxima(q, 0), s.merged);
      if (need_sum) SumSpans(task, s, q, pages, chunk, c);
    }
    first += chunk;
  }
  for (int64_t q = 0; q < queries; ++q) candidates[q].visible += left_out;
}

// Turns scores into e^(s - max) in `weight`; returns their sum.
inline float Exponentials(Candidates& c, float max, float factor) {
  PadScores(c);
  Floats sum = {};
  for (int64_t i = 0; i < c.count; i += kLanes) {
    const Floats e = Exp2((Load(c.score + i) - Set(max)) * Set(factor));
    Store(c.weight + i, e);
    sum += e;
  }
  return SumPairwise(sum);
}

// One query whose candidates are cut to the k best. s.value_sum holds the values that it sees,
// summed, if the tail needs them.
void FinishQuery(const AttentionTask& task, const TopKParams& params, int64_t query,
                 int64_t num_spans, const AttentionScratch& s, Candidates& c, float* key_mass) {
  const AttentionArgs& a = *task.args;
  const KvHeadLayout at = HeadLayout(a.layout);
  const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
  const int64_t row = task.first_row + query / group;
  const int64_t head = task.kv_head * group + query % group;
  const int d = a.layout.value_dim;
  float* out = a.out + row * a.out_stride + head * d;
  float* mass = a.kept_mass == nullptr ? nullptr : a.kept_mass + row * a.num_q_heads + head;
  if (c.count == 0) {
    for (int i = 0; i < d; ++i) out[i] = 0;
    if (mass != nullptr) *mass = 0;
    return;
  }
  const float factor = ExponentFactor(task, s, query);
  PadScores(c);
  const float max = LargestOf(c.score, c.count);
  const float kept = Exponentials(c, max, factor);
  const int64_t dropped = c.visible - c.count;
  float total = kept;
  if (dropped > 0 && num_spans > 0) {
    SoftmaxSum all = {-kInfinity, 0};
    for (int64_t i = 0; i < num_spans; ++i) all = Fold(all, c.spans[i], factor);
    const float full = all.sum * Exp2Scalar((all.max - max) * factor);
    total = full > kept ? full : kept;
  }
  const float share = kept / total;
  const bool mean = params.tail == Tail::kMean && dropped > 0;
  const float divisor = 1.0f / (mean ? total : kept);
  for (int64_t i = 0; key_mass != nullptr && i < c.count; ++i) {
    key_mass[c.index[i]] += c.weight[i] / total;
  }
  for (int64_t i = 0; i < c.count; i += kLanes) {
    Store(c.weight + i, Load(c.weight + i) * Set(divisor));
  }
  // The tail is the mean of all values less the kept ones: sum (w - tail) v + tail * sum of all.
  const float tail = mean ? (1.0f - share) / static_cast<float>(dropped) : 0.0f;
  float* weighted = s.values;
  AddKept(task, at, c, tail, weighted);
  if (mean) {
    for (int i = 0; i < d; ++i) weighted[i] += tail * s.value_sum[i];
  }
  for (int i = 0; i < d; ++i) out[i] = weighted[i];
  if (mass != nullptr) *mass = share;
}

// Makes s.value_sum the sum of the values that each query of a task sees, in order of queries.
class TailSums {
 public:
  TailSums(const AttentionTask& task, const AttentionScratch& s)
      : task_(task), s_(s), simply_causal_(SimplyCausal(*task.args)) {}

  // `dropped`: whether the query keeps fewer keys than it sees; the sum is not needed otherwise.
  void MoveTo(int64_t query, bool dropped) {
    const AttentionArgs& a = *task_.args;
    const int64_t group = a.num_q_heads / a.layout.num_kv_heads;
    const int64_t row = task_.first_row + query / group;
    if (!dropped || (row == summed_row_ && a.bias == nullptr)) return;
    if (simply_causal_) {
      const int64_t end = EndVisible(a, row);
      SumValues(task_, HeadLayout(a.layout), summed_end_, end, s_.value_sum);
      summed_end_ = end;
    } else {
      SumVisibleValues(task_, s_, query, s_.Scores(query, 0), s_.value_sum);
    }
    summed_row_ = row;
  }

 private:
  const AttentionTask& task_;
  const AttentionScratch& s_;
  const bool simply_causal_;
  int64_t summed_row_ = -1;
  int64_t summed_end_ = 0;
};

void TopKFinish(const AttentionTask& task, const TopKParams& params, int64_t num_spans,
                float* scratch, Candidates* candidates, float* key_mass) {
  const AttentionArgs& a = *task.args;
  const AttentionScratch s = CutScratch(task, scratch);
  const KvHeadLayout at = HeadLayout(a.layout);
  const int64_t queries = TaskQueries(task);
  for (int64_t q = 0; q < queries; ++q) {
    if (candidates[q].count > params.k) Prune(candidates[q], params.k, true);
    PrefetchKeptValues(task, at, candidates[q]);
  }
  TailSums sums(task, s);
  for (int64_t q = 0; q < queries; ++q) {
    Candidates& c = candidates[q];
    sums.MoveTo(q, params.tail == Tail::kMean && c.visible > c.count);
    FinishQuery(task, params, q, num_spans, s, c, key_mass);
  }
}

}  // namespace
}  // namespace lectern::kernels::internal
