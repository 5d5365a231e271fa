// Words of a document by chunk: which chunks a question is about, when there are too many to put
// the question to all of them.
//
// BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", k1 = 1.2, b = 0.75)
// with the chunks as the collection. Words are runs of ASCII letters and digits, without case, and
// of bytes of other characters. At most 8 bytes for each word of each chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace lectern {

// Immutable once made.
class LexicalIndex {
 public:
  explicit LexicalIndex(const std::vector<std::string_view>& chunks);

  // The score of each chunk; 0 for one that has no word of the question.
  std::vector<double> Scores(std::string_view question) const;

  // Share of the question's words, each weighted by how rare it is in the document, that occur in
  // any of `passages`, 0 to 1; 1 for a question without a rare word. Words that begin with the same
  // five characters count as the same (leave, leaves).
  double Coverage(std::string_view question, std::span<const std::string_view> passages) const;

 private:
  struct Posting {
    uint32_t word;  // hash
    uint16_t chunk;
    uint16_t count;
  };
  std::span<const Posting> PostingsOf(uint32_t word) const;

  std::vector<Posting> postings_;  // by word, then chunk
  std::vector<uint32_t> lengths_;  // words of each chunk
  double mean_length_ = 0;
  uint64_t total_words_ = 0;
};

}  // namespace lectern
