// Limits on vocabularies. They bound what a hostile one can ask for, in work for each byte of text
// and in memory; each has a test that exceeds it.
#pragma once

#include <cstddef>

namespace lectern {

inline constexpr size_t kMaxPieces = size_t{1} << 20;  // mT5 has 250,100
inline constexpr size_t kMaxPieceBytes = 512;          // SentencePiece trains 16 characters at most
inline constexpr size_t kMaxCharsmapBytes = size_t{4} << 20;  // NFKC with case folding takes 0.3 MB
inline constexpr size_t kMaxCharsmapKeyBytes = 128;
inline constexpr size_t kMaxReplacementBytes = 128;  // NFKC: 33, of U+FDFA
inline constexpr size_t kMaxNormalizerSteps = 16;
// Product of what the replacements of a tokenizer.json make of a text's length: blanks become
// U+2581 (3) where they are single.
inline constexpr size_t kMaxReplaceGrowth = 8;
inline constexpr size_t kMaxWordChars = 1'000;  // WordPiece; BERT has 100

}  // namespace lectern
