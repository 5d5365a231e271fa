// A DocumentQA server with canned answers, for tests of the client. It listens on 127.0.0.1 in the
// test's process; tests can inspect the requests it received.
#pragma once

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"

namespace lectern {

// The error for questions about the document "bad", with every detail that a server can send.
inline grpc::Status RichError() {
  google::rpc::ErrorInfo info;
  info.set_domain("lectern");
  info.set_reason("DOCUMENT_TOO_LONG");
  (*info.mutable_metadata())["tokens"] = "9000";
  google::rpc::BadRequest bad;
  auto* first = bad.add_field_violations();
  first->set_field("attention.top_k");
  first->set_description("1 to 65536");
  auto* second = bad.add_field_violations();
  second->set_field("stop");
  second->set_description("at most 8");
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(1);
  retry.mutable_retry_delay()->set_nanos(500000000);
  google::rpc::ResourceInfo resource;
  resource.set_resource_type("document");
  resource.set_resource_name("doc-bad");
  google::rpc::Status status;
  status.set_code(grpc::StatusCode::INVALID_ARGUMENT);
  status.set_message("the document\x1b[31m does not fit");
  status.add_details()->PackFrom(info);
  status.add_details()->PackFrom(bad);
  status.add_details()->PackFrom(retry);
  status.add_details()->PackFrom(resource);
  return {grpc::StatusCode::INVALID_ARGUMENT, status.message(), status.SerializeAsString()};
}

class FakeDocumentQa final : public lectern::v1::DocumentQA::Service {
 public:
  FakeDocumentQa() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeDocumentQa() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

  grpc::Status UploadDocument(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<lectern::v1::UploadDocumentResponse,
                               lectern::v1::UploadDocumentRequest>* stream) override {
    lectern::v1::UploadDocumentRequest request;
    if (!stream->Read(&request) || !request.has_metadata()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "no metadata"};
    }
    metadata = request.metadata();
    text.clear();
    lectern::v1::UploadDocumentResponse response;
    while (stream->Read(&request)) {
      text += request.data();
      response.mutable_progress()->set_stage(lectern::v1::UploadProgress::STAGE_RECEIVING);
      response.mutable_progress()->set_done(text.size());
      response.mutable_progress()->set_total(metadata.expected_bytes());
      stream->Write(response);
    }
    if (text.rfind("refuse", 0) == 0) return RichError();
    if (text.size() != metadata.expected_bytes() || Sha256Hex(text) != metadata.expected_sha256()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "size or sha256 differ"};
    }
    if (metadata.title() == "no-document") return grpc::Status::OK;
    auto* document = response.mutable_document();
    document->set_id("doc-0123456789abcdef0123456789abcdef");
    document->set_bytes(text.size());
    stream->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Ask(grpc::ServerContext* context, const lectern::v1::AskRequest* request,
                   grpc::ServerWriter<lectern::v1::AskResponse>* writer) override {
    if (request->document_id() == "bad") return RichError();
    ask = *request;
    lectern::v1::AskResponse response;
    response.set_seq(1);
    response.mutable_progress()->set_stage(lectern::v1::Progress::STAGE_PREFILL_QUESTION);
    response.mutable_progress()->set_done(7);
    response.mutable_progress()->set_total(7);
    writer->Write(response);
    if (request->document_id() == "endless") {
      endless_running = true;
      while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      endless_cancelled = true;
      return grpc::Status::CANCELLED;
    }
    if (request->question() == "Who paid?") {
      response.mutable_answer()->set_finish_reason(lectern::v1::Answer::FINISH_REASON_NO_ANSWER);
      response.mutable_answer()->set_null_score_difference(1.25);
      response.mutable_answer()->set_no_evidence(true);
      response.mutable_answer()->mutable_exactness()->set_exact(true);
      writer->Write(response);
      return grpc::Status::OK;
    }
    for (const char* piece : {"At ", "03:14\x1b[2J."}) {
      response.set_seq(response.seq() + 1);
      response.mutable_delta()->set_text(piece);
      writer->Write(response);
    }
    if (request->document_id() == "cut") return grpc::Status::OK;
    FillAnswer(*response.mutable_answer());
    writer->Write(response);
    return grpc::Status::OK;
  }

  // Three documents, in pages of two.
  grpc::Status ListDocuments(grpc::ServerContext*, const lectern::v1::ListDocumentsRequest* request,
                             lectern::v1::ListDocumentsResponse* response) override {
    const bool first = request->page_token().empty();
    for (const char* id : {"doc-a", "doc-b", "doc-c"}) {
      if ((id[4] == 'c') != first) response->add_documents()->set_id(id);
    }
    if (first) response->set_next_page_token("2");
    return grpc::Status::OK;
  }

  grpc::Status DeleteDocument(grpc::ServerContext*,
                              const lectern::v1::DeleteDocumentRequest* request,
                              lectern::v1::DeleteDocumentResponse* response) override {
    if (request->id() == "gone") return {grpc::StatusCode::NOT_FOUND, "no such document"};
    response->set_freed_bytes(1234567);
    return grpc::Status::OK;
  }

  grpc::Status CountTokens(grpc::ServerContext*, const lectern::v1::CountTokensRequest* request,
                           lectern::v1::CountTokensResponse* response) override {
    if (request->document_id() == "gone") return {grpc::StatusCode::NOT_FOUND, "no such document"};
    response->set_model(request->model().empty() ? "small" : request->model());
    response->set_tokens(request->text().size());
    response->set_reading(lectern::v1::READING_CHUNKS);
    response->set_chunks(3);
    response->set_chunk_tokens(2000);
    response->set_context_length(8192);
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext*, const lectern::v1::ListModelsRequest*,
                          lectern::v1::ListModelsResponse* response) override {
    lectern::v1::ModelInfo* model = response->add_models();
    model->set_name("small");
    model->set_kind(lectern::v1::ModelInfo::KIND_EXTRACTIVE);
    model->set_no_answer_threshold(0.5);
    model->set_prompt_format("chatml");
    model->set_prompt_format_reason("recognised in FILE");
    return grpc::Status::OK;
  }

  grpc::Status GetServerStatus(grpc::ServerContext*, const lectern::v1::GetServerStatusRequest*,
                               lectern::v1::ServerStatus* response) override {
    ++status_calls;
    const bool loading = status_calls <= loading_calls;
    response->set_state(loading ? lectern::v1::ServerStatus::STATE_LOADING : state.load());
    response->set_explanation(loading ? "loading models" : "ready");
    return grpc::Status::OK;
  }

  // The requests of the last calls.
  lectern::v1::UploadMetadata metadata;
  std::string text;
  lectern::v1::AskRequest ask;

  std::atomic<bool> endless_running = false;
  std::atomic<bool> endless_cancelled = false;
  std::atomic<int> status_calls = 0;
  std::atomic<int> loading_calls = 0;  // this many calls report LOADING before `state`
  std::atomic<lectern::v1::ServerStatus::State> state = lectern::v1::ServerStatus::STATE_SERVING;

 private:
  static void FillAnswer(lectern::v1::Answer& answer) {
    answer.set_text("At 03:14.");
    answer.set_finish_reason(lectern::v1::Answer::FINISH_REASON_STOP);
    auto* span = answer.add_evidence();
    span->set_begin_byte(48211);
    span->set_end_byte(48290);
    span->set_text("At 03:14 the relief valve V-12 failed.");
    span->set_attention(0.31);
    answer.mutable_timings()->mutable_time_to_first_text()->set_nanos(34000000);
    answer.mutable_timings()->set_decode_tokens_per_second(118);
    answer.mutable_usage()->set_generated_tokens(22);
    answer.mutable_exactness()->set_kept_mass_mean(0.998);
    answer.mutable_exactness()->mutable_policy()->set_top_k(64);
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace lectern
