// The job of one question, from the queue to the end: admission, deadline, events and result. How
// the question is answered is the business of an AnswerStrategy.
#pragma once

#include <memory>
#include <optional>

#include "server/engine/answering/answer_run.h"
#include "server/engine/answering/strategies/strategy_factory.h"
#include "server/engine/api.h"
#include "server/engine/documents/document_store.h"
#include "server/engine/engine_parts.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/engine/scheduling/task.h"

namespace lectern {

class AnswerJob : public QueuedJob {
 public:
  // `lease` holds the stored document. It is empty for inline text, which is read for this answer
  // alone.
  AnswerJob(const EngineParts& parts, AskOptions options, std::shared_ptr<const Model> model,
            DocumentStore::Lease lease, std::shared_ptr<AskSink> sink);

  void OnWaiting(uint32_t ahead, std::optional<absl::Duration> estimated_wait) override {
    run_.sink->OnQueued(ahead, estimated_wait);
  }
  Task<Done> Run() override;
  void End(const absl::Status& status) override;

  // CheckContextLength of the longest prompt and the answer (request_checks.h). OK as long as the
  // document is not in memory: Run() checks it then.
  absl::Status CheckFits() const;

 private:
  // Sets the reading and the strategy; the document's content is known.
  void ChooseStrategy();
  Task<absl::Status> AnswerQuestion();
  Task<absl::Status> PrepareDocument();
  Task<absl::Status> PrepareInlineText();
  void FinishAnswer();
  void Record(FinishLabel label);
  void Release();

  AnswerRun run_;
  QuestionPrompt prompt_;           // moves into the strategy
  const uint64_t question_tokens_;  // of the question and the frame around it
  std::unique_ptr<AnswerStrategy> strategy_;
  absl::Duration start_, prefilled_;  // on the steady clock; zero until then
};

}  // namespace lectern
