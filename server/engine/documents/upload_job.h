// An upload: first the bytes arrive (IncomingUpload), then the document waits and is read
// (UploadJob).
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>

#include "base/hashing/sha256.h"
#include "base/utf8.h"
#include "server/engine/api.h"
#include "server/engine/documents/document_prefill.h"
#include "server/engine/engine_parts.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/engine/scheduling/task.h"

namespace lectern {

// Limits the bytes of texts that are still arriving, over all uploads. Thread-safe.
class UploadBudget {
 public:
  explicit UploadBudget(uint64_t limit) : limit_(limit) {}
  bool Take(uint64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= limit_) return true;
    used_ -= bytes;
    return false;
  }
  void Return(uint64_t bytes) { used_ -= bytes; }
  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_; }
  uint64_t left() const { return limit_ - std::min<uint64_t>(used_, limit_); }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

// Takes `bytes`, or returns RESOURCE_EXHAUSTED (UPLOAD_BUFFER).
absl::Status TakeBytes(UploadBudget& budget, uint64_t bytes);

// The job of a request that has ended already.
class EndedJob : public Job {
 public:
  void Cancel() override {}
};

class UploadJob : public QueuedJob {
 public:
  UploadJob(const EngineParts& parts, UploadOptions options, std::shared_ptr<const Model> model,
            std::string text, std::string sha256, absl::Duration default_ttl,
            std::shared_ptr<UploadSink> sink);

  void OnWaiting(uint32_t ahead, std::optional<absl::Duration> estimated_wait) override;
  Task<Done> Run() override;
  void End(const absl::Status& status) override;

 private:
  Task<absl::StatusOr<DocumentInfo>> Read();
  Task<absl::StatusOr<DocumentInfo>> ReadPages(std::shared_ptr<const DocumentContent> content);

  const EngineParts parts_;
  const UploadOptions options_;
  const std::shared_ptr<const Model> model_;
  std::string text_;
  const std::string sha256_;
  const DocumentOptions keep_;
  std::shared_ptr<UploadSink> sink_;
  WorkStage stage_ = WorkStage::kQueue;
};

class IncomingUpload : public Upload {
 public:
  IncomingUpload(const EngineParts& parts, UploadOptions options,
                 std::shared_ptr<const Model> model, const EngineLimits& limits,
                 absl::Duration default_ttl, std::shared_ptr<UploadBudget> budget,
                 std::shared_ptr<JobQueue> queue);
  ~IncomingUpload() override;

  absl::Status Append(std::string_view bytes) override;
  uint64_t bytes_received() const override { return text_.size(); }
  absl::StatusOr<std::shared_ptr<Job>> Finish(std::shared_ptr<UploadSink> sink) override;

 private:
  absl::Status CheckWhole(const std::string& sha256) const;

  const EngineParts parts_;
  const UploadOptions options_;
  const std::shared_ptr<const Model> model_;
  const EngineLimits limits_;
  const absl::Duration default_ttl_;
  const std::shared_ptr<UploadBudget> budget_;
  const std::shared_ptr<JobQueue> queue_;
  std::string text_;
  uint64_t taken_ = 0;  // bytes taken from the budget
  Utf8StreamValidator utf8_;
  Sha256 digest_;
  absl::Status failed_;
};

}  // namespace lectern
