// One way of answering a question from a document. strategy_factory.h chooses it.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "server/engine/scheduling/task.h"

namespace lectern {

// Used by the caller's thread until the job is queued, then by the worker alone. Holds pages, which
// go back when it is destroyed; no method's task may be waiting then.
class AnswerStrategy {
 public:
  virtual ~AnswerStrategy() = default;

  // CheckContextLength of the longest prompt and the answer (request_checks.h).
  virtual absl::Status CheckFits() const = 0;

  // Reads the document and the question under the run's policy, up to the point where the first
  // token of the answer is known. May be called again, after the policy has changed.
  virtual Task<absl::Status> Prefill() = 0;

  // Produces the answer's text and its evidence. After Prefill().
  virtual Task<absl::Status> Generate() = 0;

  // Keys that the answer's last token could attend to; 0 if no decoder took part.
  virtual int64_t visible_keys() const = 0;
};

}  // namespace lectern
