// An index of a document's words: which chunks a question is about, when there are too many to put
// the question to all of them, and how rare a word is.
//
// Chunks are ranked by BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework",
// k1 = 1.2, b = 0.75) with the chunks as the collection. Terms are stems of words; function words
// of the document's language have none. At most 8 bytes for each term of each chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "server/engine/text/language.h"

namespace lectern {

// Immutable once made; thread-safe.
class LexicalIndex {
 public:
  // The language is detected from the first chunk.
  explicit LexicalIndex(const std::vector<std::string_view>& chunks);

  // The score of each chunk; 0 for one that has no term of the question.
  std::vector<double> Scores(std::string_view question) const;

  // How much a term says about a passage that holds it: log(1 + s / (n + 1)) for a term that occurs
  // n times in a document of s sentences. Documents of fewer than 20 sentences are weighted like
  // those of 20, so that a word of a single sentence counts too. Always positive.
  double Rarity(std::string_view stem) const;

  const Language& language() const { return *language_; }

 private:
  struct Posting {
    uint32_t term;  // hash of a stem
    uint16_t chunk;
    uint16_t count;
  };
  std::span<const Posting> PostingsOf(uint32_t term) const;

  const Language* language_;
  std::vector<Posting> postings_;  // by term, then chunk
  std::vector<uint32_t> lengths_;  // terms of each chunk
  double mean_length_ = 0;
  double sentences_ = 0;  // about, at least 20
};

}  // namespace lectern
