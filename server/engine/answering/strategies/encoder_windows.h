// Windows of models whose encoder reads the question together with a part of the document.
#pragma once

#include <cstdint>
#include <vector>

#include "server/engine/answering/answer_run.h"
#include "server/engine/documents/document.h"
#include "server/model/model.h"

namespace lectern {

// Parts of the document that the question is put to: all of it, or the likely chunks. Sets
// Answer::considered_ratio.
std::vector<TokenRange> ChooseParts(AnswerRun& run);

// The encoder's inputs, one for each window: the prompt around the window's tokens. Counts them as
// computed.
std::vector<std::vector<int32_t>> EncoderInputs(AnswerRun& run, const EncoderPrompt& prompt,
                                                const std::vector<TokenRange>& windows);

// Tokens of the longest part that the document is read in.
uint64_t LongestPart(const AnswerRun& run);

// Sets the counts of tokens and the reading in the answer.
void RecordDocument(AnswerRun& run, const EncoderPrompt& prompt);

}  // namespace lectern
