// One call of UploadDocument: receives bytes, sends progress and then the document.
#pragma once

#include <lectern/v1/document.pb.h>

#include <memory>

#include "server/engine/engine.h"
#include "server/rpc/call/call_job.h"
#include "server/rpc/call/serving_state.h"
#include "server/rpc/call/stream_writer.h"

namespace lectern {

inline constexpr size_t kMaxUploadMessageBytes = 1 << 20;

class UploadCall final
    : public StreamWriter<
          grpc::ServerBidiReactor<v1::UploadDocumentRequest, v1::UploadDocumentResponse>,
          v1::UploadDocumentResponse>,
      public UploadSink {
 public:
  UploadCall(const RpcEnvironment* environment, const ServingState& serving,
             grpc::CallbackServerContext* context)
      : StreamWriter(environment, RpcMethod::kUploadDocument, context), serving_(serving) {}

  void Start();
  void OnReadDone(bool ok) override;
  void OnCancel() override {
    const auto keep = shared_from_this();
    job_.Cancel();
  }

  void OnProgress(UploadStage stage, uint64_t done, uint64_t total) override;
  void OnDocument(const DocumentInfo& document) override;
  void OnError(const absl::Status& status) override { End(status); }

 private:
  static bool Merge(v1::UploadDocumentResponse& last, const v1::UploadDocumentResponse& next);

  absl::Status Handle(const v1::UploadDocumentRequest& request);
  absl::Status Begin(const v1::UploadMetadata& metadata);
  absl::Status FinishUpload();

  const ServingState& serving_;
  v1::UploadDocumentRequest request_;  // being read
  std::unique_ptr<Upload> upload_;     // used only by read events, which come one at a time
  uint64_t expected_bytes_ = 0;
  CallJob job_;
};

}  // namespace lectern
