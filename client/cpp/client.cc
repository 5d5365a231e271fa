#include "lectern/client.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"
#include "client/cpp/call_scope.h"
#include "client/cpp/channels.h"
#include "client/cpp/document_ids.h"
#include "client/cpp/retries.h"
#include "client/cpp/session.h"

namespace lectern {

using lectern::v1::DocumentQA;

namespace {

constexpr uint32_t kPageSize = 1000;

// Calls a unary method of the stub, once.
template <typename Response, typename Request, typename Method>
absl::StatusOr<Response> Call(DocumentQA::Stub& stub, Method method, const Request& request,
                              const CallOptions& options, const std::string& document_id = "") {
  LECTERN_RETURN_IF_ERROR(CheckOptions(options));
  CallScope scope(options, DeadlineOf(options), document_id);
  Response response;
  LECTERN_RETURN_IF_ERROR(scope.ToStatus((stub.*method)(scope.context(), request, &response)));
  return response;
}

}  // namespace

Client::Client(const std::string& target, const Connection& connection)
    : target_(target),
      channels_(std::make_unique<Channels>(target, connection)),
      ids_(std::make_unique<DocumentIds>(*channels_)) {}

Client::~Client() = default;

absl::Status Client::Connect(absl::Duration timeout) {
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  grpc::Channel& channel = channels_->unchecked_channel();
  grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
  while (state != GRPC_CHANNEL_READY) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN ||
        !channel.WaitForStateChange(state, deadline)) {
      return absl::UnavailableError(absl::StrCat("cannot connect to ", target_));
    }
    state = channel.GetState(/*try_to_connect=*/true);
  }
  return absl::OkStatus();
}

bool Client::WaitUntilServing(absl::Duration timeout) {
  return channels_->any_channel().WaitForConnected(absl::ToChronoTime(absl::Now() + timeout));
}

absl::StatusOr<lectern::v1::Document> Client::Upload(std::string_view text,
                                                     lectern::v1::UploadMetadata metadata,
                                                     const CallOptions& options,
                                                     const UploadCallback& on_event) {
  LECTERN_RETURN_IF_ERROR(CheckOptions(options));
  metadata = Described(std::move(metadata), text);
  Session session(*channels_, *ids_, options, "");
  const std::string id =
      ids_->Of(metadata.expected_sha256(), metadata.model(), options, session.deadline());
  while (true) {
    absl::StatusOr<lectern::v1::Document> document;
    {
      CallScope scope(options, session.deadline(), id);
      document = UploadOnce(*session.stub(), text, metadata, scope, on_event);
    }
    absl::Status status = document.status();
    if (status.ok()) {
      ids_->Check(id, document->id());
      return document;
    }
    if (!session.Recover(status)) return status;
  }
}

std::string Client::DocumentId(std::string_view text, const std::string& model,
                               const CallOptions& options) {
  if (!CheckOptions(options).ok()) return "";
  return ids_->Of(Sha256Hex(text), model, options, DeadlineOf(options));
}

absl::StatusOr<lectern::v1::Document> Client::GetDocument(const std::string& id,
                                                          const CallOptions& options) {
  lectern::v1::GetDocumentRequest request;
  request.set_id(id);
  return Call<lectern::v1::Document>(channels_->any(), &DocumentQA::Stub::GetDocument, request,
                                     options, id);
}

absl::StatusOr<std::vector<lectern::v1::Document>> Client::ListDocuments(
    const std::string& model, const CallOptions& options) {
  std::vector<lectern::v1::Document> documents;
  lectern::v1::ListDocumentsRequest request;
  request.set_model(model);
  request.set_page_size(kPageSize);
  do {
    LECTERN_ASSIGN_OR_RETURN(
        auto page, Call<lectern::v1::ListDocumentsResponse>(
                       channels_->any(), &DocumentQA::Stub::ListDocuments, request, options));
    std::move(page.mutable_documents()->begin(), page.mutable_documents()->end(),
              std::back_inserter(documents));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return documents;
}

absl::StatusOr<lectern::v1::DeleteDocumentResponse> Client::DeleteDocument(
    const std::string& id, const CallOptions& options) {
  lectern::v1::DeleteDocumentRequest request;
  request.set_id(id);
  return Call<lectern::v1::DeleteDocumentResponse>(
      channels_->any(), &DocumentQA::Stub::DeleteDocument, request, options, id);
}

absl::StatusOr<lectern::v1::CountTokensResponse> Client::CountTokens(
    const lectern::v1::CountTokensRequest& request, const CallOptions& options) {
  return Call<lectern::v1::CountTokensResponse>(channels_->any(), &DocumentQA::Stub::CountTokens,
                                                request, options, request.document_id());
}

absl::StatusOr<lectern::v1::ListModelsResponse> Client::ListModels(const CallOptions& options) {
  return Call<lectern::v1::ListModelsResponse>(channels_->any(), &DocumentQA::Stub::ListModels,
                                               lectern::v1::ListModelsRequest(), options);
}

absl::StatusOr<lectern::v1::ServerStatus> Client::GetServerStatus(const CallOptions& options) {
  return Call<lectern::v1::ServerStatus>(channels_->unchecked(), &DocumentQA::Stub::GetServerStatus,
                                         lectern::v1::GetServerStatusRequest(), options);
}

}  // namespace lectern
