// Limits on vocabularies. They bound the work for each byte of text and the memory
// that a hostile vocabulary can request; each has a test that exceeds it.
#pragma once

#include <cstddef>

namespace lectern {

inline constexpr size_t kMaxPieces = size_t{1} << 20;  // mT5 has 250,100
inline constexpr size_t kMaxPieceBytes = 512;          // SentencePiece trains at most 16 characters
inline constexpr size_t kMaxCharsmapBytes = size_t{4} << 20;  // NFKC with case folding takes 0.3 MB
inline constexpr size_t kMaxCharsmapKeyBytes = 128;
inline constexpr size_t kMaxReplacementBytes = 128;  // NFKC: 33, of U+FDFA
inline constexpr size_t kMaxNormalizerSteps = 16;
// The factor by which the replacements of a tokenizer.json may lengthen a text, multiplied over all
// of them: single blanks become U+2581 (3).
inline constexpr size_t kMaxReplaceGrowth = 8;
inline constexpr size_t kMaxPatternBytes = 64 << 10;  // DeepSeek's longest has 1.5 KB
inline constexpr size_t kMaxSplitRules = 32;
inline constexpr size_t kMaxWordChars = 1'000;  // WordPiece; BERT has 100

}  // namespace lectern
