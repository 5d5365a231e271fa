// Sentences of a document as byte ranges: the units of evidence.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace lectern {

struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Ranges in ascending order, without overlap, each on UTF-8 boundaries, without white space at
// either end. A sentence ends after . ! ? or their CJK forms (with closing quotes and brackets)
// when white space follows, but not after a common abbreviation, an initial or a list number; and
// at an empty line. A single line break ends it only after such a mark or before a list item or
// heading. Sentences longer than kMaxSentenceBytes are cut at a space, or inside a word if there is
// none.
inline constexpr uint64_t kMaxSentenceBytes = 600;
std::vector<ByteRange> SplitSentences(std::string_view text);

}  // namespace lectern
