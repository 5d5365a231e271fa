// Divides a text into the words within which unigram pieces are matched.
#pragma once

#include <vector>

#include "server/tokenizer/text/aligned_text.h"
#include "server/tokenizer/text/metaspace.h"
#include "server/tokenizer/text/piece_trie.h"
#include "server/tokenizer/unigram/charsmap.h"
#include "server/tokenizer/unigram/unigram.h"

namespace lectern {

// SentencePiece's normalisation of one text. `user_defined` pieces stay as they are.
AlignedText NormalizeForPieces(const AlignedText& text, const UnigramConfig& rules,
                               const Charsmap& charsmap, const PieceTrie& user_defined);

// Applies tokenizer.json's normalizer and pre_tokenizer to one text; no word is empty.
std::vector<AlignedText> MetaspaceWords(AlignedText text, const MetaspaceRules& rules,
                                        const Charsmap& charsmap);

}  // namespace lectern
