#include "client/cpp/session.h"

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"
#include "protocol/reasons.h"

namespace lectern {
namespace {

constexpr size_t kUploadPieceBytes = 256 * 1024;  // the server accepts messages of up to 1 MiB

}  // namespace

absl::Status NoLastMessage(const char* what) {
  return absl::InternalError(absl::StrCat("the server ended the stream without its ", what));
}

lectern::v1::UploadMetadata Described(lectern::v1::UploadMetadata metadata, std::string_view text) {
  metadata.set_expected_bytes(text.size());
  metadata.set_expected_sha256(Sha256Hex(text));
  return metadata;
}

absl::StatusOr<lectern::v1::Document> UploadOnce(Channels::Stub& stub, std::string_view text,
                                                 const lectern::v1::UploadMetadata& metadata,
                                                 CallScope& scope, const UploadCallback& on_event) {
  auto stream = stub.UploadDocument(scope.context());
  // The server reports progress while bytes are sent, so a second thread writes. A failed write
  // means that the call is over; Finish() returns the reason.
  std::thread writer([&stream, &metadata, text] {
    lectern::v1::UploadDocumentRequest request;
    *request.mutable_metadata() = metadata;
    bool open = stream->Write(request);
    for (size_t begin = 0; open && begin < text.size(); begin += kUploadPieceBytes) {
      const std::string_view piece = text.substr(begin, kUploadPieceBytes);
      request.set_data(piece.data(), piece.size());
      open = stream->Write(request);
    }
    if (open) stream->WritesDone();
  });
  lectern::v1::Document document;
  bool complete = false;
  lectern::v1::UploadDocumentResponse response;
  while (stream->Read(&response)) {
    if (on_event) on_event(response);
    if (response.has_document()) {
      document = response.document();
      complete = true;
    }
  }
  writer.join();
  LECTERN_RETURN_IF_ERROR(scope.ToStatus(stream->Finish()));
  if (!complete) return NoLastMessage("document");
  return document;
}

Session::Session(Channels& channels, DocumentIds& ids, const CallOptions& options,
                 std::string document_id)
    : channels_(channels),
      ids_(ids),
      options_(options),
      retries_(options, DeadlineOf(options)),
      document_id_(std::move(document_id)) {}

std::shared_ptr<Channels::Stub> Session::stub() { return channels_.To(peer_); }

absl::Status Session::Upload() {
  const DocumentSource& source = *options_.document;
  LECTERN_ASSIGN_OR_RETURN(const std::string text, source.text());
  const lectern::v1::UploadMetadata metadata = Described(source.metadata, text);
  const std::string id =
      document_id_.empty()
          ? ids_.Of(metadata.expected_sha256(), metadata.model(), options_, retries_.deadline())
          : document_id_;
  CallScope scope(options_, retries_.deadline(), id);
  const auto document = UploadOnce(*stub(), text, metadata, scope, source.on_event);
  LECTERN_RETURN_IF_ERROR(document.status());
  ids_.Check(id, document->id());
  peer_ = scope.context()->peer();
  retries_.Uploaded(peer_);
  if (document_id_.empty()) document_id_ = document->id();
  if (document->id() == document_id_) return absl::OkStatus();
  return MakeError(
      absl::StatusCode::kInvalidArgument,
      absl::StrCat("the text given for ", document_id_, " is that of ", document->id()),
      {.reason = kReasonInvalidRequest, .field_violations = {{"document_id", "differs"}}});
}

absl::Status Session::Begin() {
  if (options_.document == nullptr || !document_id_.empty()) return absl::OkStatus();
  absl::Status uploaded = Upload();
  while (!uploaded.ok() && Recover(uploaded)) uploaded = Upload();
  return uploaded;
}

bool Session::Recover(absl::Status& failed) {
  while (retries_.Again(failed, peer_)) {
    if (!retries_.NeedsUpload(failed)) {
      peer_.clear();
      return true;
    }
    failed = Upload();
    if (failed.ok()) return true;
  }
  if (options_.canceller != nullptr && options_.canceller->cancelled()) {
    failed = absl::CancelledError("cancelled by the caller");
  }
  return false;
}

}  // namespace lectern
