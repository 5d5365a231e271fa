// How a question is put to a document that was read in chunks (docs/measurements/quality.md): first
// to each of the likely chunks, to find the evidence; then to a short text of the best sentences,
// from which the answer is generated. Small models read short texts well and long ones poorly.
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

// Returns the chunks that the question is put to, in order: all of them, or the best by
// LexicalIndex.
std::vector<size_t> ChooseCandidates(const DocumentContent& content, std::string_view question,
                                     size_t most = kMaxCandidates);

// Returns the number of the chunk that contains a byte of the text.
uint32_t ChunkOf(const DocumentContent& content, uint64_t byte);

// Returns the text of the second reading: the best sentences in the document's order, each with the
// next sentence if that got some attention too; or only the best one, if it got far more attention
// than the others.
std::string SecondReading(const DocumentContent& content, const Evidence& evidence);

// The number of ranked sentences that SecondReading() considers.
inline constexpr uint32_t kSecondReadingSentences = 3;

}  // namespace lectern
