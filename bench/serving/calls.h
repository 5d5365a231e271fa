// The calls of a load, on gRPC's callback API, without a thread per call. Each call deletes itself
// when it is done.
#pragma once

#include <grpcpp/support/client_callback.h>
#include <lectern/v1/document_qa.grpc.pb.h>

#include <functional>
#include <memory>
#include <string>

#include "bench/serving/recorder.h"

namespace grpc {
class Alarm;
}

namespace lectern::bench {

using Stub = lectern::v1::DocumentQA::Stub;
using OnCallDone = std::function<void(const CallResult&)>;

struct AskPlan {
  Kind kind = Kind::kAsk;
  lectern::v1::AskRequest request;
  int cancel_after = 0;  // number of events, for kCancel
  double deadline = 30;  // seconds
};

void StartAsk(Stub& stub, AskPlan plan, Recorder* recorder, OnCallDone done);
void StartUpload(Stub& stub, std::string text, double deadline, OnCallDone done);

}  // namespace lectern::bench
