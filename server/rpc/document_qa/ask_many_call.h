// One AskMany stream: many questions, each under its own tag.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <memory>
#include <string>

#include "server/rpc/document_qa/question_stream.h"

namespace lectern {

class AskManyCall final : public QuestionStream<v1::AskManyRequest, v1::AskManyResponse> {
 public:
  AskManyCall(const RpcEnvironment* environment, const ServingState& serving,
              grpc::CallbackServerContext* context)
      : QuestionStream(environment, RpcMethod::kAskMany, serving, context) {}

 private:
  class TaggedSink;

  static bool Merge(v1::AskManyResponse& last, const v1::AskManyResponse& next);

  void Handle(const v1::AskManyRequest& request) override;
  void WriteError(const std::string& tag, const absl::Status& status);
  std::shared_ptr<AskManyCall> Self() {
    return std::static_pointer_cast<AskManyCall>(shared_from_this());
  }
};

}  // namespace lectern
