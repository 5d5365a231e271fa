#include "server/engine/text/lexical_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <unordered_map>

#include "server/engine/text/words.h"

namespace lectern {
namespace {

constexpr double kK1 = 1.2;
constexpr double kB = 0.75;
// About as many words of a sentence are no function words.
constexpr double kTermsPerSentence = 10;
constexpr double kLeastSentences = 20;

// FNV-1a, 32 bits.
uint32_t Hash(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

// Hashes of stems. Stemming costs more than a look-up, and a text repeats its words.
class Terms {
 public:
  explicit Terms(const Language& language) : language_(language), stemmer_(language) {}

  // The terms of a list of words, in its order.
  std::vector<uint32_t> Of(const std::vector<std::string>& words) {
    std::vector<uint32_t> terms;
    for (const std::string& word : words) {
      if (language_.IsFunctionWord(word)) continue;
      const auto [known, is_new] = known_.try_emplace(word);
      if (is_new) known->second = Hash(stemmer_.Stem(word));
      terms.push_back(known->second);
    }
    return terms;
  }

 private:
  const Language& language_;
  Stemmer stemmer_;
  std::unordered_map<std::string, uint32_t> known_;
};

}  // namespace

LexicalIndex::LexicalIndex(const std::vector<std::string_view>& chunks)
    : language_(&Language::Detect(Words(chunks.empty() ? "" : chunks.front()))) {
  constexpr uint32_t kMost = std::numeric_limits<uint16_t>::max();
  Terms terms(*language_);
  uint64_t total = 0;
  for (size_t chunk = 0; chunk < chunks.size() && chunk <= kMost; ++chunk) {
    std::map<uint32_t, uint32_t> counts;
    const std::vector<uint32_t> in_chunk = terms.Of(Words(chunks[chunk]));
    for (const uint32_t term : in_chunk) ++counts[term];
    for (const auto& [term, count] : counts) {
      postings_.push_back(
          {term, static_cast<uint16_t>(chunk), static_cast<uint16_t>(std::min(count, kMost))});
    }
    lengths_.push_back(static_cast<uint32_t>(in_chunk.size()));
    total += in_chunk.size();
  }
  std::sort(postings_.begin(), postings_.end(), [](const Posting& a, const Posting& b) {
    return a.term != b.term ? a.term < b.term : a.chunk < b.chunk;
  });
  postings_.shrink_to_fit();
  sentences_ = std::max(kLeastSentences, static_cast<double>(total) / kTermsPerSentence);
  if (!lengths_.empty()) {
    mean_length_ = std::max(1.0, static_cast<double>(total) / static_cast<double>(lengths_.size()));
  }
}

std::span<const LexicalIndex::Posting> LexicalIndex::PostingsOf(uint32_t term) const {
  const auto [first, last] =
      std::equal_range(postings_.begin(), postings_.end(), Posting{term, 0, 0},
                       [](const Posting& a, const Posting& b) { return a.term < b.term; });
  return {first, last};
}

std::vector<double> LexicalIndex::Scores(std::string_view question) const {
  std::vector<double> scores(lengths_.size(), 0.0);
  std::vector<uint32_t> terms = Terms(*language_).Of(Words(question));
  std::sort(terms.begin(), terms.end());
  terms.erase(std::unique(terms.begin(), terms.end()), terms.end());
  const double chunks = static_cast<double>(lengths_.size());
  for (const uint32_t term : terms) {
    const std::span<const Posting> postings = PostingsOf(term);
    const double having = static_cast<double>(postings.size());
    const double idf = std::log(1 + (chunks - having + 0.5) / (having + 0.5));
    for (const Posting& posting : postings) {
      const double count = posting.count;
      const double length = static_cast<double>(lengths_[posting.chunk]) / mean_length_;
      scores[posting.chunk] += idf * count * (kK1 + 1) / (count + kK1 * (1 - kB + kB * length));
    }
  }
  return scores;
}

double LexicalIndex::Rarity(std::string_view stem) const {
  double occurrences = 0;
  for (const Posting& posting : PostingsOf(Hash(stem))) occurrences += posting.count;
  return std::log1p(sentences_ / (occurrences + 1));
}

}  // namespace lectern
