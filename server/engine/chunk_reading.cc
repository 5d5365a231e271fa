#include "server/engine/chunk_reading.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace lectern {

std::vector<size_t> ChooseCandidates(const DocumentContent& content, std::string_view question,
                                     size_t most) {
  std::vector<size_t> chosen(content.chunks.size());
  std::iota(chosen.begin(), chosen.end(), size_t{0});
  if (chosen.size() <= most) return chosen;
  const std::vector<double> scores = content.words->Scores(question);
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  chosen.resize(most);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

uint32_t ChunkOf(const DocumentContent& content, uint64_t byte) {
  const auto after = std::upper_bound(content.chunks.begin(), content.chunks.end(), byte,
                                      [&](uint64_t at, const TokenRange& chunk) {
                                        return at < content.encoding.begin[chunk.begin];
                                      });
  return after == content.chunks.begin()
             ? 0
             : static_cast<uint32_t>(after - content.chunks.begin() - 1);
}

namespace {

// A sentence that gets so many times the attention of the next is read alone: others then only lead
// a small model astray (docs/quality.md).
constexpr double kStandsOut = 4;

}  // namespace

std::string SecondReading(const DocumentContent& content, const std::vector<EvidenceSpan>& ranked) {
  const bool stands_out =
      ranked.size() > 1 && ranked[0].attention > kStandsOut * ranked[1].attention;
  const size_t count = stands_out ? 1 : std::min<size_t>(ranked.size(), kSecondReadingSentences);
  std::set<std::pair<uint64_t, uint64_t>> wanted;  // bytes [first, second), in the document's order
  for (size_t i = 0; i < count; ++i) wanted.insert({ranked[i].begin_byte, ranked[i].end_byte});
  std::string text;
  for (const auto& [begin, end] : wanted) {
    if (!text.empty()) text += ' ';
    text += content.text.substr(begin, end - begin);
  }
  return text;
}

}  // namespace lectern
