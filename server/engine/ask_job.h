// One question, from the queue to its answer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/engine/document_reader.h"
#include "server/engine/job_queue.h"
#include "server/engine/types.h"

namespace lectern {

// The engine's parts that jobs work with. All outlive every job.
struct EngineParts {
  const Clock* clock;
  ServerMetrics* metrics;
  DocumentStore* store;
  DocumentReader* reader;
  Stepper* stepper;
  double no_evidence_threshold;
};

class AskJob : public QueuedJob {
 public:
  // `lease` holds the stored document; empty for inline text, which is read for this answer alone.
  AskJob(const EngineParts& parts, AskOptions options, std::shared_ptr<const Model> model,
         DocumentStore::Lease lease, std::shared_ptr<AskSink> sink);

  void OnWaiting(uint32_t ahead) override { sink_->OnQueued(ahead); }
  void Run() override;
  void End(const absl::Status& status) override;
  uint64_t PrefillTokens() const override { return tail_.ids.size(); }

  // The question as the prompt has it, with its frame.
  const std::vector<int32_t>& question() const { return tail_.ids; }
  // Of a stored document.
  uint64_t document_tokens() const {
    return content().PromptSize({0, content().encoding.ids.size()});
  }

 private:
  absl::Status Answer();
  absl::Status PrepareDocument();
  absl::Status ReadQuestion(const AttentionPolicy& policy);
  absl::StatusOr<std::shared_ptr<const ReadDocument>> DocumentPages(const AttentionPolicy& policy);
  absl::Status CheckError(bool* retry_exact) const;
  absl::Status Decode();
  absl::Status Finish();
  void Record(FinishLabel label);

  const DocumentContent& content() const { return lease_ ? lease_.content() : *inline_; }
  std::vector<std::byte*> SequencePages() const;

  const EngineParts parts_;
  const AskOptions options_;
  const std::shared_ptr<const Model> model_;
  DocumentStore::Lease lease_;
  std::shared_ptr<AskSink> sink_;
  const PromptTail tail_;

  // While it runs.
  WorkStage stage_ = WorkStage::kQueue;
  std::shared_ptr<const DocumentContent> inline_;
  std::shared_ptr<const ReadDocument> document_;
  PageSet own_pages_;  // from the document's half-filled page on
  AttentionPolicy policy_;
  KeptMass kept_mass_;
  std::vector<float> logits_;
  std::vector<float> key_mass_;
  lectern::Answer answer_;
  absl::Duration start_, prefilled_, first_text_;
};

}  // namespace lectern
