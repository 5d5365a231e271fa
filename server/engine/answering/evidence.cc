#include "server/engine/answering/evidence.h"

#include <algorithm>
#include <numeric>

namespace lectern {

Evidence RankEvidence(const std::string& text, const Encoding& encoding,
                      const std::vector<ByteRange>& sentences, std::span<const float> key_mass,
                      uint32_t max_spans) {
  std::vector<double> mass(sentences.size(), 0.0);
  double total = 0;
  size_t sentence = 0;
  for (size_t i = 0; i < key_mass.size() && i < encoding.ids.size(); ++i) {
    total += key_mass[i];
    // A token belongs to the sentence of its last byte: leading white space is part of a token.
    const uint64_t at = encoding.end[i] == 0 ? 0 : encoding.end[i] - 1;
    while (sentence < sentences.size() && sentences[sentence].end <= at) ++sentence;
    if (sentence < sentences.size() && sentences[sentence].begin <= at) {
      mass[sentence] += key_mass[i];
    }
  }
  Evidence evidence;
  if (total <= 0) return evidence;
  std::vector<size_t> order(sentences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return mass[a] > mass[b]; });
  if (!order.empty()) evidence.strength = mass[order[0]] / total;
  for (const double of_sentence : mass) evidence.shares.push_back(of_sentence / total);
  for (const size_t s : order) {
    if (evidence.spans.size() >= max_spans || mass[s] <= 0) break;
    const ByteRange& range = sentences[s];
    evidence.spans.push_back({.begin_byte = range.begin,
                              .end_byte = range.end,
                              .text = text.substr(range.begin, range.end - range.begin),
                              .attention = mass[s] / total,
                              .chunk = 0});
  }
  return evidence;
}

}  // namespace lectern
