#include "server/engine/answering/strategies/answer_spans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lectern {
namespace {

// Returns the positions of the best scores, best first. The earlier of equal ones goes first.
std::vector<size_t> BestOf(const std::vector<float>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), kBestPositions));
  return order;
}

}  // namespace

std::vector<TokenRange> SlideWindows(const TokenRange& range, size_t room, size_t overlap) {
  std::vector<TokenRange> windows;
  size_t begin = range.begin;
  while (true) {
    const size_t end = std::min(begin + room, range.end);
    windows.push_back({begin, end});
    if (end == range.end) return windows;
    begin = end - overlap;
  }
}

double NullScore(std::span<const WindowScores> windows) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const WindowScores& window : windows) {
    smallest = std::min(smallest, static_cast<double>(window.begins[0]) + window.ends[0]);
  }
  return smallest;
}

std::vector<AnswerSpan> BestSpans(std::span<const WindowScores> windows,
                                  std::optional<double> null_score) {
  std::vector<AnswerSpan> spans;
  for (size_t w = 0; w < windows.size(); ++w) {
    const WindowScores& window = windows[w];
    const size_t first = window.document_begin, last = first + window.document.size();
    const auto inside = [&](size_t at) { return at >= first && at < last; };
    const std::vector<size_t> ends = BestOf(window.ends);
    for (const size_t begin : BestOf(window.begins)) {
      for (const size_t end : ends) {
        if (!inside(begin) || !inside(end) || end < begin || end - begin >= kLongestAnswer)
          continue;
        const size_t at = window.document.begin - first;  // from window to document
        spans.push_back({.tokens = {at + begin, at + end + 1},
                         .window = w,
                         .score = static_cast<double>(window.begins[begin]) + window.ends[end]});
      }
    }
  }
  std::stable_sort(spans.begin(), spans.end(),
                   [](const AnswerSpan& a, const AnswerSpan& b) { return a.score > b.score; });
  if (spans.size() > kBestPositions) spans.resize(kBestPositions);
  if (spans.empty()) return spans;
  const double best = std::max(spans[0].score, null_score.value_or(spans[0].score));
  double total = null_score ? std::exp(*null_score - best) : 0;
  for (AnswerSpan& span : spans) total += span.probability = std::exp(span.score - best);
  for (AnswerSpan& span : spans) span.probability /= total;
  return spans;
}

}  // namespace lectern
