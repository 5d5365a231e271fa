#include "server/engine/engine.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/engine/answering/answer_job.h"
#include "server/engine/documents/document_prefill.h"
#include "server/engine/documents/document_size.h"
#include "server/engine/documents/document_store.h"
#include "server/engine/documents/kv_allocator.h"
#include "server/engine/documents/token_counter.h"
#include "server/engine/documents/upload_job.h"
#include "server/engine/fault_points.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/engine/request_checks.h"
#include "server/engine/scheduling/job_queue.h"
#include "server/engine/scheduling/scheduler.h"

namespace lectern {
namespace {

// The idle worker wakes up this often to drop expired documents and to update its heartbeat.
constexpr absl::Duration kIdleTick = absl::Milliseconds(100);

class EngineImpl : public Engine {
 public:
  EngineImpl(const EngineOptions& options, std::vector<std::shared_ptr<const Model>> models,
             const Clock* clock, ServerMetrics* metrics)
      : options_(options),
        models_(std::move(models)),
        clock_(clock),
        metrics_(metrics),
        pool_(options.kv_bytes),
        store_(clock, metrics,
               {.tenant_limits = options.tenant_limits,
                .cache = {.directory = options.cache_dir, .max_bytes = options.cache_bytes},
                .models = models_}),
        queue_(std::make_shared<JobQueue>(options.limits.queue, clock, metrics)),
        scheduler_(clock, metrics, queue_, options.prefill_slice_tokens),
        allocator_(&pool_, &store_, &scheduler_),
        prefill_(clock, metrics, &store_, &allocator_, &scheduler_),
        uploads_(std::make_shared<UploadBudget>(options.upload_bytes)),
        counter_(clock) {
    metrics_->SetQueueCapacity(options.limits.queue.waiting);
    for (const auto& model : models_) {
      const absl::Status reserved =
          pool_.Reserve(model->info().page_bytes, options.kv_populate && model == models_.front());
      if (!reserved.ok()) LogError("kv_bytes", {{"error", std::string(reserved.message())}});
    }
    PublishPool();
    scheduler_.Tick();
    worker_ = std::thread([this] { Work(); });
  }

  ~EngineImpl() override { Stop(); }

  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadOptions& options) override {
    LECTERN_RETURN_IF_ERROR(queue_->CheckOpen());
    LECTERN_ASSIGN_OR_RETURN(auto model, FindModel(models_, options.model, "metadata.model"));
    const absl::Status checked = CheckUpload(options, options_.limits, model->info());
    if (!checked.ok()) {
      metrics_->Rejected(AdmissionReason::kInvalid);
      return checked;
    }
    LECTERN_RETURN_IF_ERROR(CheckCanBeHeld(options, *model));
    return std::make_unique<IncomingUpload>(Parts(), options, std::move(model), options_.limits,
                                            options_.default_ttl, uploads_, queue_);
  }

  absl::StatusOr<DocumentInfo> GetDocument(const std::string& id,
                                           const std::string& owner) const override {
    return store_.Get(id, owner);
  }
  absl::StatusOr<DocumentPage> ListDocuments(uint32_t page_size, const std::string& page_token,
                                             const std::string& model,
                                             const std::string& owner) const override {
    if (!model.empty()) LECTERN_RETURN_IF_ERROR(FindModel(models_, model, "model").status());
    return store_.List(page_size, page_token, model, owner);
  }
  absl::StatusOr<uint64_t> DeleteDocument(const std::string& id,
                                          const std::string& owner) override {
    auto freed = store_.Delete(id, owner);
    PublishPool();
    return freed;
  }

  absl::StatusOr<std::shared_ptr<Job>> Ask(AskOptions options,
                                           std::shared_ptr<AskSink> sink) override {
    LECTERN_RETURN_IF_ERROR(queue_->CheckRoom());
    std::shared_ptr<const Model> model;
    DocumentStore::Lease lease;
    absl::Status checked = FindSource(options, model, lease);
    if (checked.ok()) checked = CheckAsk(options, options_.limits, model->info());
    if (!checked.ok()) {
      metrics_->Rejected(AdmissionReason::kInvalid);
      return checked;
    }
    if (options.max_new_tokens == 0) {
      options.max_new_tokens = options_.limits.default_max_new_tokens;
    }
    const bool stored = !options.inline_text.has_value();
    auto job = std::make_shared<AnswerJob>(Parts(), std::move(options), std::move(model),
                                           std::move(lease), std::move(sink));
    if (stored) {
      const absl::Status fits = job->CheckFits();
      if (!fits.ok()) {
        metrics_->Rejected(AdmissionReason::kTooLarge);
        return fits;
      }
    }
    LECTERN_RETURN_IF_ERROR(FaultPoint(Fault::kAccepted));
    LECTERN_RETURN_IF_ERROR(queue_->Push(job));
    return job;
  }

  absl::StatusOr<std::shared_ptr<Job>> CountTokens(CountOptions options, CountDone done) override {
    LECTERN_RETURN_IF_ERROR(queue_->CheckOpen());
    if (!options.document_id.empty() == options.text.has_value()) {
      return ViolationsError({{"source", "must be either document_id or text"}});
    }
    if (!options.text) return CountDocument(options, done);
    LECTERN_ASSIGN_OR_RETURN(auto model, FindModel(models_, options.model, "model"));
    LECTERN_RETURN_IF_ERROR(CheckText(*options.text, options_.limits));
    const uint64_t bytes = options.text->size();
    LECTERN_RETURN_IF_ERROR(TakeBytes(*uploads_, bytes));
    return counter_.Count(std::move(model), *std::move(options.text), options.deadline,
                          [budget = uploads_, bytes, done = std::move(done)](const auto& count) {
                            budget->Return(bytes);
                            done(count);
                          });
  }

  const std::vector<std::shared_ptr<const Model>>& models() const override { return models_; }
  const EngineLimits& limits() const override { return options_.limits; }

  EngineStatus status() const override {
    return {.running = queue_->running(),
            .waiting = queue_->waiting(),
            .documents = store_.size(),
            .kv_bytes_used = pool_.used(),
            .kv_bytes_capacity = pool_.budget()};
  }
  absl::Time heartbeat() const override { return scheduler_.last_step(); }

  void StopAccepting() override { queue_->Close(); }
  bool WaitUntilIdle(absl::Time deadline) override { return queue_->WaitUntilIdle(deadline); }

  void Stop() override {
    queue_->Close();
    counter_.Stop();
    stopping_ = true;
    queue_->Wake();
    if (worker_.joinable()) worker_.join();
  }

 private:
  EngineParts Parts() {
    return {clock_,      metrics_,    &store_,      &prefill_,
            &allocator_, &scheduler_, queue_.get(), options_.no_evidence_threshold};
  }

  // Reports how a stored document was read.
  absl::StatusOr<std::shared_ptr<Job>> CountDocument(const CountOptions& options,
                                                     const CountDone& done) const {
    LECTERN_ASSIGN_OR_RETURN(const DocumentInfo document,
                             store_.Get(options.document_id, options.owner));
    LECTERN_RETURN_IF_ERROR(CheckReader(options.model, document.model));
    LECTERN_ASSIGN_OR_RETURN(const auto model, FindModel(models_, document.model, "model"));
    done(TokenCount{.model = document.model,
                    .tokens = document.tokens,
                    .reading = document.reading,
                    .chunks = document.chunks,
                    .chunk_tokens = ChunkTokens(model->info()),
                    .context_length = static_cast<uint64_t>(model->info().context_length)});
    return std::make_shared<EndedJob>();
  }

  // Refuses a model other than the one that read the document.
  absl::Status CheckReader(const std::string& model, const std::string& reader) const {
    if (model.empty() || model == reader) return absl::OkStatus();
    LECTERN_RETURN_IF_ERROR(FindModel(models_, model, "model").status());
    return ViolationsError({{"model", absl::StrCat("the document was read by model ", reader)}});
  }

  // Refuses an upload that can never be held by its declared size, before its bytes arrive.
  absl::Status CheckCanBeHeld(const UploadOptions& options, const Model& model) {
    if (options.expected_bytes == 0) return absl::OkStatus();
    const uint64_t bytes = LeastDeviceBytes(model, options.expected_bytes);
    if (bytes > pool_.budget()) {
      metrics_->Rejected(AdmissionReason::kKvExhausted);
      return MakeError(absl::StatusCode::kResourceExhausted,
                       absl::StrCat("keys and values of ", options.expected_bytes,
                                    " bytes of text take at least ", bytes, " bytes; there are ",
                                    pool_.budget(), " in all"),
                       {.reason = "CACHE_FULL",
                        .metadata = {{"bytes", absl::StrCat(bytes)},
                                     {"limit", absl::StrCat(pool_.budget())},
                                     {"used", absl::StrCat(pool_.used())}}});
    }
    const uint64_t quota = options_.tenant_limits.bytes;
    if (quota == 0 || bytes <= quota) return absl::OkStatus();
    return store_.Reserve(options.owner, /*id=*/"", bytes).status();
  }

  void PublishPool() {
    metrics_->SetKvCache(pool_.used(), pool_.budget(),
                         models_.empty() ? 0 : models_[0]->info().page_tokens);
  }

  // Finds the model that answers, and the stored document unless the text is inline.
  absl::Status FindSource(const AskOptions& options, std::shared_ptr<const Model>& model,
                          DocumentStore::Lease& lease) {
    const bool stored = !options.document_id.empty();
    if (stored == options.inline_text.has_value()) {
      return ViolationsError({{"source", "must be either document_id or inline_text"}});
    }
    if (!stored) {
      LECTERN_ASSIGN_OR_RETURN(model, FindModel(models_, options.model, "model"));
      return absl::OkStatus();
    }
    LECTERN_ASSIGN_OR_RETURN(lease, store_.Use(options.document_id, options.owner));
    model = lease.model();
    return CheckReader(options.model, model->info().name);
  }

  void Work() {
    while (!stopping_ || scheduler_.has_jobs()) {
      if (stopping_) {
        for (const auto& job : queue_->Abort()) job->End(DrainingError());
      }
      store_.DropExpired();
      PublishPool();
      if (!scheduler_.RunOnce()) queue_->WaitForWork(kIdleTick);
    }
    for (const auto& job : queue_->Abort()) job->End(DrainingError());
    PublishPool();
  }

  const EngineOptions options_;
  const std::vector<std::shared_ptr<const Model>> models_;
  const Clock* const clock_;
  ServerMetrics* const metrics_;
  PagePool pool_;
  mutable DocumentStore store_;
  const std::shared_ptr<JobQueue> queue_;
  Scheduler scheduler_;
  KvAllocator allocator_;
  DocumentPrefill prefill_;
  const std::shared_ptr<UploadBudget> uploads_;
  TokenCounter counter_;
  std::atomic<bool> stopping_{false};
  std::thread worker_;
};

}  // namespace

std::unique_ptr<Engine> Engine::Create(const EngineOptions& options,
                                       std::vector<std::shared_ptr<const Model>> models,
                                       const Clock* clock, ServerMetrics* metrics) {
  return std::make_unique<EngineImpl>(options, std::move(models), clock, metrics);
}

}  // namespace lectern
