#include "server/engine/answering/chunk_reading.h"

#include <algorithm>
#include <numeric>
#include <set>

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

// A sentence that gets more than this many times the attention of the next is read alone, because
// others then only mislead a small model (docs/measurements/quality.md).
constexpr double kDominates = 4;
// The sentence after one that is read is read too if it gets this share of the best one's
// attention: the answer often follows the sentence that names the subject.
constexpr double kFollows = 0.2;

}  // namespace

std::string SecondReading(const DocumentContent& content, const Evidence& evidence) {
  const std::vector<EvidenceSpan>& ranked = evidence.spans;
  const std::vector<ByteRange>& sentences = content.sentences;
  const bool dominates =
      ranked.size() > 1 && ranked[0].attention > kDominates * ranked[1].attention;
  const size_t count = dominates ? 1 : std::min<size_t>(ranked.size(), kSecondReadingSentences);
  std::set<size_t> wanted;
  for (size_t i = 0; i < count; ++i) {
    const auto found = std::lower_bound(
        sentences.begin(), sentences.end(), ranked[i].begin_byte,
        [](const ByteRange& sentence, uint64_t byte) { return sentence.begin < byte; });
    if (found == sentences.end()) continue;
    const size_t at = static_cast<size_t>(found - sentences.begin());
    wanted.insert(at);
    const bool follows = at + 1 < evidence.shares.size() &&
                         evidence.shares[at + 1] >= kFollows * ranked[0].attention;
    if (follows && !dominates) wanted.insert(at + 1);
  }
  std::string text;
  for (const size_t at : wanted) {
    if (!text.empty()) text += ' ';
    text += content.text.substr(sentences[at].begin, sentences[at].end - sentences[at].begin);
  }
  return text;
}

}  // namespace lectern
