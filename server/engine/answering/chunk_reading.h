// How a question is put to a document that was read in chunks (docs/measurements/quality.md): first
// to each of the likely chunks, which tells where the evidence is; then to a short text of the best
// sentences, which the answer is read from. Small models read short texts well and long ones
// poorly.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "server/engine/answering/evidence.h"
#include "server/engine/api.h"
#include "server/engine/documents/document.h"

namespace lectern {

// The question is put to at most this many chunks (some 32,000 tokens).
inline constexpr size_t kMaxCandidates = 16;

// Chunks that the question is put to, in order: all of them, or the best by LexicalIndex.
std::vector<size_t> ChooseCandidates(const DocumentContent& content, std::string_view question,
                                     size_t most = kMaxCandidates);

// The chunk that holds a byte of the text.
uint32_t ChunkOf(const DocumentContent& content, uint64_t byte);

// The text of the second reading: the best sentences in the document's order, with those behind
// them that got some attention too; or the best one alone if it stands out.
std::string SecondReading(const DocumentContent& content, const Evidence& evidence);

// Sentences that SecondReading() looks at.
inline constexpr uint32_t kSecondReadingSentences = 3;

}  // namespace lectern
