// Generates the text of an answer, token by token.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/engine/answering/answer_run.h"
#include "server/engine/answering/sequence.h"
#include "server/engine/scheduling/task.h"
#include "server/model/model.h"

namespace lectern {

// Samples a token from `logits`, shows its text, and continues `sequence` with it, until the model
// ends the answer, a stop string is complete, or max_new_tokens are generated. Sets the answer's
// text, finish reason and stop string.
//
// `logits` [vocabulary] are those of the sequence's last token, and hold those of the next ones in
// turn. `step` says what every step of this model needs besides tokens and pages: the memory of a
// seq2seq model, key_mass.
Task<absl::Status> DecodeAnswer(AnswerRun& run, Sequence& sequence, std::vector<float>& logits,
                                ForwardSlice step);

}  // namespace lectern
