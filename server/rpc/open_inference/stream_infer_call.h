// One call of ModelStreamInfer: many requests, each answered by pieces of text and a last response.
#pragma once

#include <inference/open_inference.pb.h>

#include <memory>

#include "server/rpc/document_qa/question_stream.h"

namespace lectern::open_inference {

class StreamInferCall final
    : public QuestionStream<inference::ModelInferRequest, inference::ModelStreamInferResponse> {
 public:
  StreamInferCall(const RpcEnvironment* environment, const ServingState& serving,
                  grpc::CallbackServerContext* context)
      : QuestionStream(environment, RpcMethod::kModelStreamInfer, serving, context) {}

 private:
  class Sink;

  void Handle(const inference::ModelInferRequest& request) override;

  int64_t requests_ = 0;  // read so far
};

}  // namespace lectern::open_inference
