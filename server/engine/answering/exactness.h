// How close an answer is to exact attention.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/engine/answering/answer_run.h"

namespace lectern {

// Compares the softmax mass that selection dropped with the request's max_error. Returns true if
// the question must be read again with exact attention, as the request asks for in that case.
// FAILED_PRECONDITION (EXACTNESS) if the bound is violated and the request has no such wish.
absl::StatusOr<bool> MustRetryExactly(const AnswerRun& run);

// Fills in Answer::exactness and records it. `visible_keys`: keys that the answer's last token
// could attend to.
void FillExactness(int64_t visible_keys, AnswerRun& run);

}  // namespace lectern
