// A scripted DocumentQA server on 127.0.0.1, in the process of the test.
#pragma once

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"
#include "protocol/document_id.h"

namespace lectern {

inline grpc::Status ErrorWith(grpc::StatusCode code, const std::string& reason,
                              int retry_after_ms = -1) {
  google::rpc::ErrorInfo info;
  info.set_domain("lectern");
  info.set_reason(reason);
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(reason);
  status.add_details()->PackFrom(info);
  if (retry_after_ms >= 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_after_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(retry_after_ms % 1000 * 1'000'000);
    status.add_details()->PackFrom(retry);
  }
  return {code, reason, status.SerializeAsString()};
}

inline lectern::v1::AskResponse DeltaOf(const std::string& text) {
  lectern::v1::AskResponse response;
  response.mutable_delta()->set_text(text);
  return response;
}

inline lectern::v1::AskResponse AnswerOf(const std::string& text) {
  lectern::v1::AskResponse response;
  response.mutable_answer()->set_text(text);
  return response;
}

// Keeps uploads under ids derived from their digests, and answers questions about them with
// `pieces`, unless `before` ends the call first.
class ScriptedDocumentQa final : public lectern::v1::DocumentQA::Service {
 public:
  using Send = std::function<void(const lectern::v1::AskResponse&)>;

  ScriptedDocumentQa() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedDocumentQa() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

  static std::string IdOf(const std::string& text, const std::string& fingerprint = "f1") {
    return DocumentIdOf(fingerprint, Sha256Hex(text));
  }

  grpc::Status UploadDocument(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<lectern::v1::UploadDocumentResponse,
                               lectern::v1::UploadDocumentRequest>* stream) override {
    Remember(*context);
    lectern::v1::UploadDocumentRequest request;
    std::string text;
    while (stream->Read(&request)) text += request.data();
    const int number = ++uploads;
    if (upload_before) {
      if (const grpc::Status status = upload_before(number); !status.ok()) return status;
    }
    lectern::v1::UploadDocumentResponse response;
    const std::lock_guard lock(mutex_);
    response.mutable_document()->set_id(IdOf(text, fingerprint));
    if (keeps_documents) documents_[response.document().id()] = text;
    stream->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Ask(grpc::ServerContext* context, const lectern::v1::AskRequest* request,
                   grpc::ServerWriter<lectern::v1::AskResponse>* writer) override {
    const int number = ++asks;
    Remember(*context);
    context->AddTrailingMetadata("x-request-id", "req-" + std::to_string(number));
    return Answer(number, *request, [writer](const auto& response) { writer->Write(response); });
  }

  // Answers in reverse order, when all questions have come.
  grpc::Status AskMany(grpc::ServerContext* context,
                       grpc::ServerReaderWriter<lectern::v1::AskManyResponse,
                                                lectern::v1::AskManyRequest>* stream) override {
    Remember(*context);
    std::vector<lectern::v1::AskManyRequest> requests;
    for (lectern::v1::AskManyRequest request; stream->Read(&request);) requests.push_back(request);
    ++streams;
    for (size_t i = requests.size(); i-- > 0;) {
      lectern::v1::AskManyResponse out;
      out.set_tag(requests[i].tag());
      const grpc::Status status =
          Answer(++asks, requests[i].ask(), [&](const lectern::v1::AskResponse& response) {
            *out.mutable_response() = response;
            stream->Write(out);
          });
      if (status.ok()) continue;
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE) return status;  // the stream's
      out.mutable_error()->set_code(status.error_code());
      out.mutable_error()->set_message(status.error_message());
      out.mutable_error()->set_status(status.error_details());
      stream->Write(out);
    }
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext*, const lectern::v1::ListModelsRequest*,
                          lectern::v1::ListModelsResponse* response) override {
    ++model_lists;
    response->add_models()->set_name("small");
    const std::lock_guard lock(mutex_);
    response->mutable_models(0)->set_fingerprint(fingerprint);
    return grpc::Status::OK;
  }

  grpc::Status GetDocument(grpc::ServerContext* context,
                           const lectern::v1::GetDocumentRequest* request,
                           lectern::v1::Document* response) override {
    Remember(*context);
    const std::lock_guard lock(mutex_);
    if (documents_.count(request->id()) == 0) {
      return ErrorWith(grpc::StatusCode::NOT_FOUND, "DOCUMENT_NOT_FOUND");
    }
    response->set_id(request->id());
    return grpc::Status::OK;
  }

  grpc::Status DeleteDocument(grpc::ServerContext* context,
                              const lectern::v1::DeleteDocumentRequest* request,
                              lectern::v1::DeleteDocumentResponse*) override {
    Remember(*context);
    const std::lock_guard lock(mutex_);
    documents_.erase(request->id());
    return grpc::Status::OK;
  }

  grpc::Status GetServerStatus(grpc::ServerContext*, const lectern::v1::GetServerStatusRequest*,
                               lectern::v1::ServerStatus* response) override {
    response->set_state(lectern::v1::ServerStatus::STATE_SERVING);
    return grpc::Status::OK;
  }

  // Called first in the n-th question or upload (1, 2, ...); a failure ends it.
  std::function<grpc::Status(int number, const Send& send)> before;
  std::function<grpc::Status(int number)> upload_before;
  std::vector<std::string> pieces = {"At ", "03:14."};
  bool keeps_documents = true;
  std::string fingerprint = "f1";  // the model's

  std::atomic<int> asks = 0;
  std::atomic<int> uploads = 0;
  std::atomic<int> streams = 0;
  std::atomic<int> model_lists = 0;
  std::multimap<std::string, std::string> metadata;  // from the last call about a document

 private:
  void Remember(const grpc::ServerContext& context) {
    const std::lock_guard lock(mutex_);
    metadata.clear();
    for (const auto& [key, value] : context.client_metadata()) {
      metadata.emplace(std::string(key.data(), key.size()),
                       std::string(value.data(), value.size()));
    }
  }

  grpc::Status Answer(int number, const lectern::v1::AskRequest& request, const Send& send) {
    if (before) {
      if (const grpc::Status status = before(number, send); !status.ok()) return status;
    }
    if (request.question() == "bad") {
      return ErrorWith(grpc::StatusCode::INVALID_ARGUMENT, "INVALID_REQUEST");
    }
    if (!request.has_inline_text()) {
      const std::lock_guard lock(mutex_);
      if (documents_.count(request.document_id()) == 0) {
        return ErrorWith(grpc::StatusCode::NOT_FOUND, "DOCUMENT_EVICTED");
      }
    }
    std::string text;
    for (const std::string& piece : pieces) {
      send(DeltaOf(piece));
      text += piece;
    }
    send(AnswerOf(text));
    return grpc::Status::OK;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::map<std::string, std::string> documents_;  // text by id
};

}  // namespace lectern
