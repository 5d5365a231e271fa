// The service over a real socket, with an engine.
#pragma once

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "server/engine/engine.h"
#include "server/metrics/server_metrics.h"
#include "server/rpc/call/serving_state.h"
#include "server/rpc/call/unknown_methods.h"
#include "server/rpc/document_qa/document_qa_service.h"
#include "server/rpc/health/health_service.h"
#include "server/rpc/open_inference/service.h"
#include "tests/testing/fake_model.h"

namespace lectern {

// A server on a free port of 127.0.0.1, with an engine that the test provides.
class RpcFixture : public testing::Test {
 protected:
  explicit RpcFixture(RpcEnvironment environment = {}) : environment_(std::move(environment)) {
    environment_.metrics = &metrics_;
    environment_.version = "test";
    qa_ = NewDocumentQaService(&serving_, environment_, {});
    open_inference_ = NewOpenInferenceService(&serving_, environment_);
    health_service_ = NewHealthService(&serving_, environment_);
    unknown_ = NewUnknownMethodService(environment_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(qa_.get());
    builder.RegisterService(open_inference_.get());
    builder.RegisterService(health_service_.get());
    builder.RegisterCallbackGenericService(unknown_.get());
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
    channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
    stub_ = v1::DocumentQA::NewStub(channel_);
  }

  ~RpcFixture() override { StopServer(); }

  // Waits until no call is left, so that all of them have been counted and logged.
  void StopServer() {
    serving_.Set(ServerState::kStopped, "over");
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }

  void Serve(Engine* engine) {
    serving_.SetEngine(engine);
    serving_.Set(ServerState::kServing, "serving");
  }

  v1::AskRequest Inline(const std::string& question) {
    v1::AskRequest request;
    request.set_inline_text("A short document.");
    request.set_question(question);
    request.set_max_new_tokens(500);
    return request;
  }

  ServerMetrics metrics_{{"fake"}};
  RpcEnvironment environment_;
  ServingState serving_;
  std::unique_ptr<grpc::Service> qa_, open_inference_, health_service_;
  std::unique_ptr<grpc::CallbackGenericService> unknown_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::DocumentQA::Stub> stub_;
};

// Uses the real engine and a fake model.
class ServiceTest : public RpcFixture {
 protected:
  explicit ServiceTest(RpcEnvironment environment = {}) : RpcFixture(std::move(environment)) {
    InitLogging(/*json=*/true,
                LogLevel::kWarning);  // a line for each question would hide the results
    FakeModelOptions options;
    options.answer = [](const std::string&, const std::string& question) {
      return std::string(question == "long" ? 400 : 5, 'x');
    };
    model_ = std::make_shared<FakeModel>(options);
    EngineOptions engine_options;
    engine_options.limits.max_new_tokens = 500;
    engine_options.limits.queue.waiting = 40;
    engine_options.kv_bytes = 64 << 20;
    engine_ = Engine::Create(engine_options, {model_}, &Clock::Real(), &metrics_);
  }

  ~ServiceTest() override {
    StopServer();
    engine_->Stop();
  }

  void Serve() { RpcFixture::Serve(engine_.get()); }

  void WaitUntilIdle() { EXPECT_TRUE(engine_->WaitUntilIdle(absl::Now() + absl::Seconds(20))); }

  std::shared_ptr<FakeModel> model_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace lectern
