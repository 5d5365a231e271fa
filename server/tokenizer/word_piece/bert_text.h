// Divides a text into BERT's words, as its BasicTokenizer and Hugging Face's BertNormalizer and
// BertPreTokenizer do.
#pragma once

#include <vector>

#include "server/tokenizer/text/aligned_text.h"

namespace lectern {

struct BertRules {
  bool clean_text = true;            // no control characters; white space becomes blanks
  bool handle_chinese_chars = true;  // each ideograph is a word
  bool strip_accents = true;
  bool lowercase = true;
};

AlignedText NormalizeBert(const AlignedText& text, const BertRules& rules);

// Half-open ranges of the normalised text: runs without white space, punctuation by itself.
struct WordRange {
  size_t begin = 0;
  size_t end = 0;
};
std::vector<WordRange> BertWords(std::string_view text);

}  // namespace lectern
