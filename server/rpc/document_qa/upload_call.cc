#include "server/rpc/document_qa/upload_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/engine/request_checks.h"
#include "server/rpc/call/question_log.h"
#include "server/rpc/document_qa/ask_call.h"
#include "server/rpc/document_qa/convert.h"

namespace lectern {

void UploadCall::Start() {
  if (!identity().tenant.ok()) return End(identity().tenant.status());
  StartRead(&request_);
}

void UploadCall::OnReadDone(bool ok) {
  const auto keep = shared_from_this();
  absl::Status status;
  if (ok) {
    record().Received(request_.ByteSizeLong());
    status = Handle(request_);
    if (status.ok()) {
      StartRead(&request_);
      return;
    }
  } else if (context().IsCancelled()) {
    status = absl::CancelledError("cancelled by the client");
  } else {
    status = FinishUpload();
    if (status.ok()) return;
  }
  upload_ = nullptr;
  End(status);
}

absl::Status UploadCall::Handle(const v1::UploadDocumentRequest& request) {
  switch (request.part_case()) {
    case v1::UploadDocumentRequest::kMetadata:
      if (upload_ != nullptr) {
        return ViolationsError({{"metadata", "must be the first message only"}});
      }
      return Begin(request.metadata());
    case v1::UploadDocumentRequest::kData:
      if (upload_ == nullptr) {
        return ViolationsError({{"metadata", "must be the first message, before any data"}});
      }
      if (request.data().size() > kMaxUploadMessageBytes) {
        return ViolationsError({{"data", absl::StrCat("must be at most ", kMaxUploadMessageBytes,
                                                      " bytes a message")}});
      }
      LECTERN_RETURN_IF_ERROR(upload_->Append(request.data()));
      OnProgress(UploadStage::kReceiving, upload_->bytes_received(), expected_bytes_);
      return absl::OkStatus();
    default:
      return ViolationsError({{"part", "must be metadata or data"}});
  }
}

absl::Status UploadCall::Begin(const v1::UploadMetadata& metadata) {
  LECTERN_ASSIGN_OR_RETURN(Engine* const engine, serving_.Serving());
  LECTERN_ASSIGN_OR_RETURN(UploadOptions options, FromProto(metadata));
  options.tenant = *identity().tenant;
  options.owner = identity().owner;
  options.request_id = identity().request_id;
  options.deadline = DeadlineOf(context());
  expected_bytes_ = options.expected_bytes;
  LECTERN_ASSIGN_OR_RETURN(upload_, engine->StartUpload(options));
  return absl::OkStatus();
}

absl::Status UploadCall::FinishUpload() {
  if (upload_ == nullptr) {
    LECTERN_RETURN_IF_ERROR(serving_.Serving().status());
    return ViolationsError({{"metadata", "must be the first message"}});
  }
  auto sink = std::static_pointer_cast<UploadCall>(shared_from_this());
  LECTERN_ASSIGN_OR_RETURN(std::shared_ptr<Job> job, upload_->Finish(sink));
  upload_ = nullptr;
  job_.Set(std::move(job));
  return absl::OkStatus();
}

bool UploadCall::Merge(v1::UploadDocumentResponse& last, const v1::UploadDocumentResponse& next) {
  if (!last.has_progress() || !next.has_progress() ||
      last.progress().stage() != next.progress().stage()) {
    return false;
  }
  last = next;
  return true;
}

void UploadCall::OnProgress(UploadStage stage, uint64_t done, uint64_t total) {
  v1::UploadDocumentResponse response;
  response.mutable_progress()->set_stage(ToProto(stage));
  response.mutable_progress()->set_done(done);
  response.mutable_progress()->set_total(total);
  Write(std::move(response), &UploadCall::Merge);
}

void UploadCall::OnDocument(const DocumentInfo& document) {
  record().Add({{"model", document.model},
                {"doc", ShortDocumentId(document.id)},
                {"document_bytes", document.bytes},
                {"document_tokens", document.tokens}});
  v1::UploadDocumentResponse response;
  *response.mutable_document() = ToProto(document);
  Write(std::move(response), &UploadCall::Merge);
  End(absl::OkStatus());
}

}  // namespace lectern
