// One call of ModelInfer: a question whose answer is one message.
#pragma once

#include <inference/open_inference.pb.h>

#include <memory>
#include <optional>

#include "server/rpc/call/call_job.h"
#include "server/rpc/call/call_record.h"
#include "server/rpc/call/question_log.h"
#include "server/rpc/call/serving_state.h"
#include "server/rpc/open_inference/convert.h"

namespace lectern::open_inference {

// Owns itself from Own() until gRPC is done with it, like StreamWriter.
class InferCall final : public grpc::ServerUnaryReactor,
                        public AskSink,
                        public std::enable_shared_from_this<InferCall> {
 public:
  InferCall(const RpcEnvironment* environment, grpc::CallbackServerContext* context,
            const inference::ModelInferRequest& request, inference::ModelInferResponse* response);

  void Own() { self_ = shared_from_this(); }
  // Submits the question to the engine; ends the call if the engine refuses.
  void Start(const ServingState& serving, const inference::ModelInferRequest& request);

  void OnCancel() override {
    const auto keep = shared_from_this();
    job_.Cancel();
  }
  void OnDone() override;

  void OnQueued(uint32_t, std::optional<absl::Duration>) override {}
  void OnProgress(AskStage, uint64_t, uint64_t) override {}
  void OnText(std::string_view, uint32_t tokens) override { log_->OnText(tokens); }
  void OnAnswer(const Answer& answer) override;
  void OnError(const absl::Status& status) override { Fail(WithNamesOfInputs(status)); }

 private:
  void Fail(const absl::Status& status);

  grpc::CallbackServerContext* const context_;
  inference::ModelInferResponse* const response_;
  CallRecord record_;
  const InferResponses responses_;
  std::optional<QuestionLog> log_;  // set once the request is a valid question
  CallJob job_;
  grpc::StatusCode code_ = grpc::StatusCode::OK;  // before Finish()
  std::shared_ptr<InferCall> self_;
};

}  // namespace lectern::open_inference
