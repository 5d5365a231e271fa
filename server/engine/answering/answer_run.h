// The state of one question while it runs: what its job and the strategy that answers it share.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "server/engine/answering/answer_stream.h"
#include "server/engine/answering/evidence.h"
#include "server/engine/api.h"
#include "server/engine/documents/document_prefill.h"
#include "server/engine/engine_parts.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/engine/scheduling/scheduler.h"
#include "server/engine/text/question_coverage.h"

namespace lectern {

// Used by the caller's thread until the job is queued, then by the worker alone.
struct AnswerRun {
  EngineParts parts;
  AskOptions options;  // the inline text moves out when the document is prepared
  std::shared_ptr<const Model> model;
  QueuedJob* job = nullptr;

  // The stored document that is asked about. Empty for inline text, which is read for this answer
  // alone.
  DocumentStore::Lease lease;
  // Null until the document is prepared.
  std::shared_ptr<const DocumentContent> content;
  ReadingMode reading = ReadingMode::kWhole;  // kWhole or kChunks, once there is content

  WorkStage stage = WorkStage::kQueue;
  AttentionPolicy policy;
  std::shared_ptr<AskSink> sink;  // null once it has been told the end
  AnswerStream stream;

  // Results.
  KeptMass kept_mass;
  Evidence evidence;
  QuestionCoverage question_coverage;
  Answer answer;

  StepOwner owner() const { return {job, stage}; }
  // The tokens of all prompts that the document is read in, prefixes included.
  uint64_t document_tokens() const { return content->PromptTokens(reading); }
  // Records tokens that were computed for this answer.
  void CountComputed(uint64_t tokens);
  // Sets `evidence` and `question_coverage` from the attention to each token of the document.
  void RankSentences(std::span<const float> token_mass);
};

}  // namespace lectern
