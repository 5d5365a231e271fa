#include "client/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/rpc_status.h"
#include "client/service_config.h"
#include "server/base/sha256.h"
#include "server/base/status_macros.h"

namespace lectern {

using lectern::v1::DocumentQA;

namespace {

constexpr size_t kUploadPieceBytes = 256 * 1024;  // the server takes at most 1 MiB a message
constexpr uint32_t kPageSize = 1000;

std::shared_ptr<grpc::Channel> NewChannel(const std::string& target, bool with_service_config) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix("lectern-client");
  // Only what the config below says, not what a name server may add.
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  if (with_service_config) arguments.SetServiceConfigJSON(kServiceConfig);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

// Holds a call's context and makes it reachable for its Canceller.
class CancelScope {
 public:
  explicit CancelScope(const CallOptions& options) : canceller_(options.canceller) {
    if (options.timeout != absl::InfiniteDuration()) {
      context_.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
    }
    if (canceller_ == nullptr) return;
    absl::MutexLock lock(&canceller_->mutex_);
    canceller_->running_ = &context_;
    if (canceller_->cancelled_) context_.TryCancel();
  }
  ~CancelScope() {
    if (canceller_ == nullptr) return;
    absl::MutexLock lock(&canceller_->mutex_);
    canceller_->running_ = nullptr;
  }
  CancelScope(const CancelScope&) = delete;
  CancelScope& operator=(const CancelScope&) = delete;

  grpc::ClientContext* context() { return &context_; }

 private:
  grpc::ClientContext context_;
  Canceller* const canceller_;
};

void Canceller::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  if (running_ != nullptr) running_->TryCancel();
}

bool Canceller::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

namespace {

// Calls a unary method of the stub.
template <typename Response, typename Request, typename Method>
absl::StatusOr<Response> Call(DocumentQA::Stub& stub, Method method, const Request& request,
                              const CallOptions& options) {
  CancelScope scope(options);
  Response response;
  LECTERN_RETURN_IF_ERROR(FromGrpcStatus((stub.*method)(scope.context(), request, &response)));
  return response;
}

absl::Status NoLastMessage(const char* what) {
  return absl::InternalError(absl::StrCat("the server ended the stream without its ", what));
}

}  // namespace

Client::Client(const std::string& target)
    : target_(target),
      unchecked_channel_(NewChannel(target, /*with_service_config=*/false)),
      status_stub_(DocumentQA::NewStub(unchecked_channel_)),
      stub_(DocumentQA::NewStub(NewChannel(target, /*with_service_config=*/true))) {}

absl::Status Client::Connect(absl::Duration timeout) {
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  grpc_connectivity_state state = unchecked_channel_->GetState(/*try_to_connect=*/true);
  while (state != GRPC_CHANNEL_READY) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN ||
        !unchecked_channel_->WaitForStateChange(state, deadline)) {
      return absl::UnavailableError(absl::StrCat("cannot connect to ", target_));
    }
    state = unchecked_channel_->GetState(/*try_to_connect=*/true);
  }
  return absl::OkStatus();
}

absl::StatusOr<lectern::v1::Document> Client::Upload(std::string_view text,
                                                     lectern::v1::UploadMetadata metadata,
                                                     const CallOptions& options,
                                                     const UploadCallback& on_event) {
  metadata.set_expected_bytes(text.size());
  metadata.set_expected_sha256(Sha256Hex(text));
  CancelScope scope(options);
  auto stream = stub_->UploadDocument(scope.context());
  // Progress comes back while bytes are sent, so writing has its own thread. A failed write means
  // that the call is over; Finish() tells why.
  std::thread writer([&stream, &metadata, text] {
    lectern::v1::UploadDocumentRequest request;
    *request.mutable_metadata() = std::move(metadata);
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
  LECTERN_RETURN_IF_ERROR(FromGrpcStatus(stream->Finish()));
  if (!complete) return NoLastMessage("document");
  return document;
}

absl::StatusOr<lectern::v1::Answer> Client::Ask(const lectern::v1::AskRequest& request,
                                                const CallOptions& options,
                                                const AskCallback& on_event) {
  CancelScope scope(options);
  auto stream = stub_->Ask(scope.context(), request);
  lectern::v1::Answer answer;
  bool complete = false;
  lectern::v1::AskResponse response;
  while (stream->Read(&response)) {
    if (on_event) on_event(response);
    if (response.has_answer()) {
      answer = response.answer();
      complete = true;
    }
  }
  LECTERN_RETURN_IF_ERROR(FromGrpcStatus(stream->Finish()));
  if (!complete) return NoLastMessage("answer");
  return answer;
}

absl::StatusOr<lectern::v1::Document> Client::GetDocument(const std::string& id,
                                                          const CallOptions& options) {
  lectern::v1::GetDocumentRequest request;
  request.set_id(id);
  return Call<lectern::v1::Document>(*stub_, &DocumentQA::Stub::GetDocument, request, options);
}

absl::StatusOr<std::vector<lectern::v1::Document>> Client::ListDocuments(
    const std::string& model, const CallOptions& options) {
  std::vector<lectern::v1::Document> documents;
  lectern::v1::ListDocumentsRequest request;
  request.set_model(model);
  request.set_page_size(kPageSize);
  do {
    LECTERN_ASSIGN_OR_RETURN(auto page,
                             Call<lectern::v1::ListDocumentsResponse>(
                                 *stub_, &DocumentQA::Stub::ListDocuments, request, options));
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
  return Call<lectern::v1::DeleteDocumentResponse>(*stub_, &DocumentQA::Stub::DeleteDocument,
                                                   request, options);
}

absl::StatusOr<lectern::v1::ListModelsResponse> Client::ListModels(const CallOptions& options) {
  return Call<lectern::v1::ListModelsResponse>(*stub_, &DocumentQA::Stub::ListModels,
                                               lectern::v1::ListModelsRequest(), options);
}

absl::StatusOr<lectern::v1::ServerStatus> Client::GetServerStatus(const CallOptions& options) {
  return Call<lectern::v1::ServerStatus>(*status_stub_, &DocumentQA::Stub::GetServerStatus,
                                         lectern::v1::GetServerStatusRequest(), options);
}

}  // namespace lectern
