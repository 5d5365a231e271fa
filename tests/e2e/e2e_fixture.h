// A real server with the real model, shared by the tests of a program, and stubs to talk to it.
#pragma once

#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpc/health/v1/health.grpc.pb.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/testing/golden.h"
#include "tests/testing/server_process.h"

namespace lectern::e2e {

// The events of an Ask stream.
struct AskResult {
  grpc::Status status;
  std::vector<v1::AskResponse> events;
  std::string streamed;  // all deltas joined
  v1::Answer answer;
};

struct UploadResult {
  grpc::Status status;
  std::vector<v1::UploadProgress> progress;
  v1::Document document;
};

// The ErrorInfo reason of a status, or "".
inline std::string ReasonOf(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    if (any.UnpackTo(&info)) return info.reason();
  }
  return "";
}

class E2eTest : public testing::Test {
 protected:
  static void TearDownTestSuite() { server_.reset(); }

  void SetUp() override {
    const std::string model = test::DefaultModelPath();
    LECTERN_REQUIRE_FILE(std::filesystem::exists(model), model);
    if (!server_) {
      server_ = std::make_unique<test::ServerProcess>();
      ASSERT_TRUE(server_->WaitUntilReady()) << server_->Log();
    }
    Connect(*server_);
  }

  void Connect(const test::ServerProcess& server) {
    channel_ = grpc::CreateChannel(server.grpc_address(), grpc::InsecureChannelCredentials());
    stub_ = v1::DocumentQA::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }

  UploadResult Upload(const std::string& text, v1::UploadMetadata metadata = {}) {
    grpc::ClientContext context;
    auto stream = stub_->UploadDocument(&context);
    v1::UploadDocumentRequest request;
    *request.mutable_metadata() = std::move(metadata);
    bool open = stream->Write(request);
    for (size_t at = 0; open && at < text.size(); at += 1000) {
      request.set_data(text.substr(at, 1000));
      open = stream->Write(request);
    }
    stream->WritesDone();
    UploadResult result;
    for (v1::UploadDocumentResponse response; stream->Read(&response);) {
      if (response.has_progress()) result.progress.push_back(response.progress());
      if (response.has_document()) result.document = response.document();
    }
    result.status = stream->Finish();
    return result;
  }

  AskResult Ask(const v1::AskRequest& request) {
    grpc::ClientContext context;
    return Read(context, request, 1 << 30);
  }

  // Cancels after `deltas` pieces of text.
  AskResult Read(grpc::ClientContext& context, const v1::AskRequest& request, int deltas) {
    auto stream = stub_->Ask(&context, request);
    AskResult result;
    for (v1::AskResponse response; stream->Read(&response);) {
      result.events.push_back(response);
      if (response.has_delta()) {
        result.streamed += response.delta().text();
        if (--deltas == 0) context.TryCancel();
      }
      if (response.has_answer()) result.answer = response.answer();
    }
    result.status = stream->Finish();
    return result;
  }

  v1::AskRequest Question(const std::string& document, const std::string& question) {
    v1::AskRequest request;
    request.set_document_id(document);
    request.set_question(question);
    request.set_max_new_tokens(24);
    return request;
  }

  v1::ServerStatus Status() {
    grpc::ClientContext context;
    v1::ServerStatus status;
    EXPECT_TRUE(stub_->GetServerStatus(&context, {}, &status).ok());
    return status;
  }

  // Waits until nothing runs and exactly `bytes` of KV memory are held.
  void ExpectReleased(uint64_t bytes) {
    v1::ServerStatus status;
    for (int i = 0; i < 500; ++i) {
      status = Status();
      if (status.requests_running() + status.requests_waiting() == 0 &&
          status.kv_bytes_used() == bytes) {
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ADD_FAILURE() << "still held: " << status.ShortDebugString();
  }

  static inline std::unique_ptr<test::ServerProcess> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::DocumentQA::Stub> stub_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// A text of some 1,000 tokens for each thousand asked for, with one fact in the middle.
inline std::string TextWithFact(int thousands, const std::string& fact) {
  std::string text;
  const int sentences = thousands * 50;
  for (int i = 0; i < sentences; ++i) {
    if (i == sentences / 2) text += fact + " ";
    text += "Entry " + std::to_string(i) +
            " of the log says that the water level was normal and that no alarm was raised. ";
  }
  return text;
}

}  // namespace lectern::e2e
