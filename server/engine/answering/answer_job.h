// One question, from the queue to its answer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/engine/answering/answer_spans.h"
#include "server/engine/answering/evidence.h"
#include "server/engine/answering/sequence.h"
#include "server/engine/api.h"
#include "server/engine/documents/document_prefill.h"
#include "server/engine/engine_parts.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/engine/scheduling/task.h"

namespace lectern {

class AnswerJob : public QueuedJob {
 public:
  // `lease` holds the stored document; empty for inline text, which is read for this answer alone.
  AnswerJob(const EngineParts& parts, AskOptions options, std::shared_ptr<const Model> model,
            DocumentStore::Lease lease, std::shared_ptr<AskSink> sink);

  void OnWaiting(uint32_t ahead) override { sink_->OnQueued(ahead); }
  Task<Done> Run() override;
  void End(const absl::Status& status) override;

  // Refuses what cannot fit the model's window; for a stored document, unless it is on disk alone.
  absl::Status CheckStored() const;

 private:
  void ResolveReading();
  Task<absl::Status> Answer();
  Task<absl::Status> AnswerBehindDocument();
  Task<absl::Status> PrepareDocument();
  Task<absl::Status> ReadPrompt();
  Task<absl::Status> ReadWhole();
  Task<absl::Status> ReadChunks();
  Task<absl::Status> SearchChunks(std::shared_ptr<const DocumentKv> document);
  void AddEvidence(const TokenRange& chunk, const std::vector<float>& frame,
                   const std::vector<float>& words);
  Task<absl::Status> ReadAgain(std::shared_ptr<const DocumentKv> document);
  void RankSentences();
  Task<absl::StatusOr<std::shared_ptr<const DocumentKv>>> DocumentPages();
  absl::Status CheckError(bool* retry_exact) const;

  // Models that read question and document together (window_answers.cc).
  Task<absl::Status> AnswerFromWindows();
  std::vector<TokenRange> ChooseWindows();
  absl::Status CheckFrame() const;
  std::vector<std::vector<int32_t>> WindowTokens(const std::vector<TokenRange>& windows);
  Task<absl::Status> ReadWindows(const std::vector<TokenRange>& windows);
  void AddMemoryEvidence(const std::vector<TokenRange>& windows);
  Task<absl::Status> FindSpans(const std::vector<TokenRange>& windows);
  void ShowSpans(const std::vector<WindowScores>& scores);
  Task<absl::Status> Decode();
  void Show(const std::string& text);
  void Finish();
  void FillExactness();
  void Record(FinishLabel label);
  void Release();

  StepOwner Owner() { return {this, stage_}; }
  const DocumentContent& content() const { return lease_ ? lease_.content() : *inline_; }
  uint64_t document_tokens() const { return content().PromptTokens(reading_); }

  const EngineParts parts_;
  AskOptions options_;  // its inline text leaves when the document is prepared
  const std::shared_ptr<const Model> model_;
  DocumentStore::Lease lease_;
  std::shared_ptr<AskSink> sink_;
  const QuestionSuffix tail_;  // the question as the prompt has it, with its frame
  const EncoderPrompt frame_;  // or as the windows of an encoder have it

  // While it runs.
  WorkStage stage_ = WorkStage::kQueue;
  std::shared_ptr<const DocumentContent> inline_;
  ReadingMode reading_ = ReadingMode::kWhole;
  AttentionPolicy policy_;
  Sequence sequence_;  // what the answer continues
  PageSet memory_;     // of a seq2seq model: what its windows were encoded to
  int64_t memory_tokens_ = 0;
  std::vector<float> memory_mass_;  // attention of the answer's tokens to each of them
  KeptMass kept_mass_;
  std::vector<float> logits_;
  std::vector<float> token_mass_;  // attention to each of the document's tokens
  Evidence evidence_;
  double question_coverage_ = 1;
  uint32_t unsent_tokens_ = 0;
  lectern::Answer answer_;
  absl::Duration start_, prefilled_, first_text_;
};

}  // namespace lectern
