#include "server/engine/documents/upload_job.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/status_macros.h"
#include "server/engine/fault_points.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

// Tokens of the context length that a document must leave for a question and its answer; a quarter
// of a short context length.
constexpr int64_t kLeastQuestionTokens = 64;

DocumentOptions KeepAs(const UploadOptions& options, absl::Duration default_ttl) {
  absl::Duration ttl = options.ttl.value_or(absl::ZeroDuration());
  if (ttl == absl::ZeroDuration()) ttl = default_ttl;
  if (ttl == absl::ZeroDuration()) ttl = absl::InfiniteDuration();
  return {.owner = options.owner, .title = options.title, .pinned = options.pinned, .ttl = ttl};
}

}  // namespace

absl::Status TakeBytes(UploadBudget& budget, uint64_t bytes) {
  if (budget.Take(bytes)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("too many uploads arrive at once (", budget.limit(),
                                " bytes are set aside for them)"),
                   {.reason = "UPLOAD_BUFFER",
                    .metadata = {{"limit", absl::StrCat(budget.limit())}},
                    .retry_after = absl::Seconds(1)});
}

UploadJob::UploadJob(const EngineParts& parts, UploadOptions options,
                     std::shared_ptr<const Model> model, std::string text, std::string sha256,
                     absl::Duration default_ttl, std::shared_ptr<UploadSink> sink)
    : QueuedJob({.is_upload = true,
                 .priority = options.priority,
                 .tenant = options.tenant,
                 .model = model->info().name},
                options.deadline, parts.clock),
      parts_(parts),
      options_(std::move(options)),
      model_(std::move(model)),
      text_(std::move(text)),
      sha256_(std::move(sha256)),
      keep_(KeepAs(options_, default_ttl)),
      sink_(std::move(sink)) {
  SetWork({.prefill_tokens = text_.size() / 4});  // a guess: tokens are not known yet
}

void UploadJob::OnWaiting(uint32_t ahead, std::optional<absl::Duration> /*estimated_wait*/) {
  sink_->OnProgress(UploadStage::kQueued, 0, ahead);
}

Task<Done> UploadJob::Run() {
  stage_ = WorkStage::kIngest;
  const absl::StatusOr<DocumentInfo> document = co_await Read();
  if (document.ok()) {
    DelayPoint(Fault::kTell);
    std::exchange(sink_, nullptr)->OnDocument(*document);
  } else {
    End(document.status());
  }
  co_return Done{};
}

void UploadJob::End(const absl::Status& status) {
  text_ = {};
  DelayPoint(Fault::kTell);
  if (absl::IsCancelled(status)) parts_.metrics->Cancelled(stage_, SinceCancel());
  if (absl::IsDeadlineExceeded(status)) parts_.metrics->DeadlineExceeded(stage_);
  std::exchange(sink_, nullptr)->OnError(status);
}

Task<absl::StatusOr<DocumentInfo>> UploadJob::Read() {
  const std::string id = DocumentId(*model_, sha256_);
  // Another job may have read this content while this one waited.
  LECTERN_CO_ASSIGN_OR_RETURN(auto known, parts_.store->Renew(id, keep_));
  if (known) co_return *known;
  const uint64_t bytes = text_.size();
  sink_->OnProgress(UploadStage::kTokenizing, 0, bytes);
  const StepOwner owner{this, stage_};
  auto content = co_await parts_.prefill->Prepare(model_, std::move(text_), sha256_, owner);
  if (!content.ok()) co_return content.status();
  sink_->OnProgress(UploadStage::kTokenizing, bytes, bytes);
  SetWork({.prefill_tokens = (*content)->encoding.ids.size()});
  co_return co_await ReadPages(*std::move(content));
}

Task<absl::StatusOr<DocumentInfo>> UploadJob::ReadPages(
    std::shared_ptr<const DocumentContent> content) {
  const StepOwner owner{this, stage_};
  const ReadingMode reading = content->Resolve(options_.reading);
  const uint64_t tokens = content->PromptTokens(reading);
  if (reading == ReadingMode::kWhole) {
    const int64_t least = std::min(kLeastQuestionTokens, model_->info().context_length / 4);
    LECTERN_CO_RETURN_IF_ERROR(CheckContextLength(
        {.document = tokens, .whole_document = true, .question = static_cast<uint64_t>(least)},
        model_->info()));
  }
  Scheduler::Progress progress = [this, tokens](uint64_t done) {
    sink_->OnProgress(UploadStage::kPrefill, done, tokens);
  };
  co_return co_await parts_.prefill->Store(std::move(content), reading,
                                           ResolvePolicy(options_.attention, model_->info()), keep_,
                                           owner, std::move(progress));
}

IncomingUpload::IncomingUpload(const EngineParts& parts, UploadOptions options,
                               std::shared_ptr<const Model> model, const EngineLimits& limits,
                               absl::Duration default_ttl, std::shared_ptr<UploadBudget> budget,
                               std::shared_ptr<JobQueue> queue)
    : parts_(parts),
      options_(std::move(options)),
      model_(std::move(model)),
      limits_(limits),
      default_ttl_(default_ttl),
      budget_(std::move(budget)),
      queue_(std::move(queue)) {}

IncomingUpload::~IncomingUpload() { budget_->Return(taken_); }

absl::Status IncomingUpload::Append(std::string_view bytes) {
  if (failed_.ok()) failed_ = FaultPoint(Fault::kArriving);
  if (!failed_.ok()) return failed_;
  const uint64_t size = text_.size() + bytes.size();
  if (size > limits_.max_document_bytes) {
    parts_.metrics->Rejected(AdmissionReason::kTooLarge);
    failed_ = MakeError(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("the document has more than ", limits_.max_document_bytes, " bytes"),
        {.reason = "DOCUMENT_TOO_LONG",
         .metadata = {{"bytes", absl::StrCat(size)},
                      {"limit", absl::StrCat(limits_.max_document_bytes)}},
         .field_violations = {
             {"data", absl::StrCat("must be at most ", limits_.max_document_bytes, " bytes")}}});
  } else if (!utf8_.Append(bytes)) {
    parts_.metrics->Rejected(AdmissionReason::kInvalid);
    failed_ =
        ViolationsError({{"data", absl::StrCat("is not UTF-8 at byte ", utf8_.valid_bytes())}});
  } else if (failed_ = TakeBytes(*budget_, bytes.size()); !failed_.ok()) {
    parts_.metrics->Rejected(AdmissionReason::kKvExhausted);
  } else {
    if (text_.empty()) {
      // The size is only a claim of the client, so no more than the budget can still hand out.
      text_.reserve(std::min(options_.expected_bytes, bytes.size() + budget_->left()));
    }
    taken_ += bytes.size();
    digest_.Update(bytes);
    text_ += bytes;
  }
  return failed_;
}

absl::Status IncomingUpload::CheckWhole(const std::string& sha256) const {
  std::vector<FieldViolation> violations;
  if (text_.empty()) violations.push_back({"data", "must not be empty"});
  if (!utf8_.Complete()) violations.push_back({"data", "ends inside a UTF-8 character"});
  if (options_.expected_bytes != 0 && options_.expected_bytes != text_.size()) {
    violations.push_back(
        {"metadata.expected_bytes",
         absl::StrCat("says ", options_.expected_bytes, ", but ", text_.size(), " bytes arrived")});
  }
  if (!options_.expected_sha256.empty() &&
      absl::AsciiStrToLower(options_.expected_sha256) != sha256) {
    violations.push_back({"metadata.expected_sha256", absl::StrCat("the bytes' is ", sha256)});
  }
  return ViolationsError(violations);
}

absl::StatusOr<std::shared_ptr<Job>> IncomingUpload::Finish(std::shared_ptr<UploadSink> sink) {
  LECTERN_RETURN_IF_ERROR(failed_);
  failed_ = absl::FailedPreconditionError("the upload is over");
  const std::string sha256 = digest_.HexDigest();
  LECTERN_RETURN_IF_ERROR(CheckWhole(sha256));
  LECTERN_RETURN_IF_ERROR(queue_->CheckOpen());
  const std::string id = DocumentId(*model_, sha256);
  const DocumentOptions keep = KeepAs(options_, default_ttl_);
  LECTERN_ASSIGN_OR_RETURN(const auto known, parts_.store->Renew(id, keep));
  if (known) {
    parts_.metrics->Admitted();
    sink->OnDocument(*known);
    return std::make_shared<EndedJob>();
  }
  auto job = std::make_shared<UploadJob>(parts_, options_, model_, std::move(text_), sha256,
                                         default_ttl_, std::move(sink));
  text_ = {};
  LECTERN_RETURN_IF_ERROR(FaultPoint(Fault::kAccepted));
  LECTERN_RETURN_IF_ERROR(queue_->Push(job));
  return job;
}

}  // namespace lectern
