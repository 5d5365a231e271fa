#include "server/engine/text/lexical_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace lectern {
namespace {

constexpr double kK1 = 1.2;
constexpr double kB = 0.75;
// A word that occurs once in so many words, about a sentence, says nothing about a question.
constexpr double kCommonWords = 25;
constexpr int kStemCharacters = 5;

bool IsWordByte(unsigned char c) {
  return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Hashes (FNV-1a, 32 bits) of a word and of its first characters.
struct Word {
  uint32_t whole, stem;
};

// Calls take(Word) for the words of a text, in order.
template <typename Take>
void ForEachWord(std::string_view text, Take take) {
  constexpr uint32_t kStart = 2166136261u;
  Word word = {kStart, kStart};
  int characters = 0;
  for (const char c : text) {
    unsigned char byte = static_cast<unsigned char>(c);
    if (!IsWordByte(byte)) {
      if (characters > 0) take(word);
      word = {kStart, kStart};
      characters = 0;
      continue;
    }
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<unsigned char>(byte - 'A' + 'a');
    if (characters == 0 || (byte & 0xC0) != 0x80) ++characters;  // not the rest of a UTF-8 sequence
    word.whole = (word.whole ^ byte) * 16777619u;
    if (characters <= kStemCharacters) word.stem = (word.stem ^ byte) * 16777619u;
  }
  if (characters > 0) take(word);
}

// Hashes of the words of a text, in order.
std::vector<uint32_t> Words(std::string_view text) {
  std::vector<uint32_t> words;
  ForEachWord(text, [&](const Word& word) { words.push_back(word.whole); });
  return words;
}

}  // namespace

LexicalIndex::LexicalIndex(const std::vector<std::string_view>& chunks) {
  constexpr uint32_t kMost = std::numeric_limits<uint16_t>::max();
  for (size_t chunk = 0; chunk < chunks.size() && chunk <= kMost; ++chunk) {
    std::map<uint32_t, uint32_t> counts;
    const std::vector<uint32_t> words = Words(chunks[chunk]);
    for (const uint32_t word : words) ++counts[word];
    for (const auto& [word, count] : counts) {
      postings_.push_back(
          {word, static_cast<uint16_t>(chunk), static_cast<uint16_t>(std::min(count, kMost))});
    }
    lengths_.push_back(static_cast<uint32_t>(words.size()));
    total_words_ += words.size();
  }
  std::sort(postings_.begin(), postings_.end(), [](const Posting& a, const Posting& b) {
    return a.word != b.word ? a.word < b.word : a.chunk < b.chunk;
  });
  postings_.shrink_to_fit();
  if (!lengths_.empty()) {
    mean_length_ =
        std::max(1.0, static_cast<double>(total_words_) / static_cast<double>(lengths_.size()));
  }
}

std::span<const LexicalIndex::Posting> LexicalIndex::PostingsOf(uint32_t word) const {
  const auto [first, last] =
      std::equal_range(postings_.begin(), postings_.end(), Posting{word, 0, 0},
                       [](const Posting& a, const Posting& b) { return a.word < b.word; });
  return {first, last};
}

std::vector<double> LexicalIndex::Scores(std::string_view question) const {
  std::vector<double> scores(lengths_.size(), 0.0);
  std::vector<uint32_t> words = Words(question);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  const double chunks = static_cast<double>(lengths_.size());
  for (const uint32_t word : words) {
    const std::span<const Posting> postings = PostingsOf(word);
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

double LexicalIndex::Coverage(std::string_view question,
                              std::span<const std::string_view> passages) const {
  std::set<uint32_t> present;
  for (const std::string_view passage : passages) {
    ForEachWord(passage, [&](const Word& word) { present.insert(word.stem); });
  }
  const double sentences = static_cast<double>(total_words_) / kCommonWords;
  std::set<uint32_t> seen;
  double all = 0, covered = 0;
  ForEachWord(question, [&](const Word& word) {
    if (!seen.insert(word.whole).second) return;
    double occurrences = 0;
    for (const Posting& posting : PostingsOf(word.whole)) occurrences += posting.count;
    const double rarity = std::max(0.0, std::log((sentences + 1) / (occurrences + 1)));
    all += rarity;
    if (present.contains(word.stem)) covered += rarity;
  });
  return all > 0 ? covered / all : 1.0;
}

}  // namespace lectern
