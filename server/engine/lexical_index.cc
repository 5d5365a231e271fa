#include "server/engine/lexical_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace lectern {
namespace {

constexpr double kK1 = 1.2;
constexpr double kB = 0.75;

bool IsWordByte(unsigned char c) {
  return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Hashes of the words of a text (FNV-1a, 32 bits), in order.
std::vector<uint32_t> Words(std::string_view text) {
  std::vector<uint32_t> words;
  uint32_t hash = 0;
  bool inside = false;
  for (const char c : text) {
    unsigned char byte = static_cast<unsigned char>(c);
    if (!IsWordByte(byte)) {
      if (inside) words.push_back(hash);
      inside = false;
      continue;
    }
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<unsigned char>(byte - 'A' + 'a');
    if (!inside) hash = 2166136261u;
    inside = true;
    hash = (hash ^ byte) * 16777619u;
  }
  if (inside) words.push_back(hash);
  return words;
}

}  // namespace

LexicalIndex::LexicalIndex(const std::vector<std::string_view>& chunks) {
  constexpr uint32_t kMost = std::numeric_limits<uint16_t>::max();
  uint64_t all = 0;
  for (size_t chunk = 0; chunk < chunks.size() && chunk <= kMost; ++chunk) {
    std::map<uint32_t, uint32_t> counts;
    const std::vector<uint32_t> words = Words(chunks[chunk]);
    for (const uint32_t word : words) ++counts[word];
    for (const auto& [word, count] : counts) {
      postings_.push_back(
          {word, static_cast<uint16_t>(chunk), static_cast<uint16_t>(std::min(count, kMost))});
    }
    lengths_.push_back(static_cast<uint32_t>(words.size()));
    all += words.size();
  }
  std::sort(postings_.begin(), postings_.end(), [](const Posting& a, const Posting& b) {
    return a.word != b.word ? a.word < b.word : a.chunk < b.chunk;
  });
  postings_.shrink_to_fit();
  if (!lengths_.empty()) {
    mean_length_ = std::max(1.0, static_cast<double>(all) / static_cast<double>(lengths_.size()));
  }
}

std::vector<double> LexicalIndex::Scores(std::string_view question) const {
  std::vector<double> scores(lengths_.size(), 0.0);
  std::vector<uint32_t> words = Words(question);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  const double chunks = static_cast<double>(lengths_.size());
  for (const uint32_t word : words) {
    const auto [first, last] =
        std::equal_range(postings_.begin(), postings_.end(), Posting{word, 0, 0},
                         [](const Posting& a, const Posting& b) { return a.word < b.word; });
    const double having = static_cast<double>(last - first);
    const double idf = std::log(1 + (chunks - having + 0.5) / (having + 0.5));
    for (auto posting = first; posting != last; ++posting) {
      const double count = posting->count;
      const double length = static_cast<double>(lengths_[posting->chunk]) / mean_length_;
      scores[posting->chunk] += idf * count * (kK1 + 1) / (count + kK1 * (1 - kB + kB * length));
    }
  }
  return scores;
}

}  // namespace lectern
