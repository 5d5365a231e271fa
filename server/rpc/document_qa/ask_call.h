// One call of Ask: sends the engine's events for a question as a stream of responses.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "server/engine/engine.h"
#include "server/rpc/call/call_job.h"
#include "server/rpc/call/question_log.h"
#include "server/rpc/call/serving_state.h"
#include "server/rpc/call/stream_writer.h"

namespace lectern {

// Converts engine events to AskResponse messages: numbers them, adds the answer id, resumes.
class AskEvents {
 public:
  AskEvents(std::string answer_id, uint64_t after_seq);

  v1::AskResponse Queued(uint32_t position, std::optional<absl::Duration> estimated_wait) const;
  v1::AskResponse Progress(AskStage stage, uint64_t done, uint64_t total) const;
  // Returns false if the client has received this delta.
  bool Delta(std::string_view text, uint32_t tokens, v1::AskResponse& out);
  v1::AskResponse Final(const Answer& answer);

  // Merges an event into a waiting one of equal kind; false if they cannot be merged.
  static bool Merge(v1::AskResponse& last, const v1::AskResponse& next);

 private:
  v1::AskResponse New() const;
  const std::string answer_id_;
  const uint64_t after_seq_;
  uint64_t seq_ = 0;  // engine thread only
};

class AskCall final
    : public StreamWriter<grpc::ServerWriteReactor<v1::AskResponse>, v1::AskResponse>,
      public AskSink {
 public:
  AskCall(const RpcEnvironment* environment, grpc::CallbackServerContext* context,
          const v1::AskRequest& request);

  // Submits the question to the engine; ends the call if the engine refuses.
  void Start(const ServingState& serving, const v1::AskRequest& request);

  void OnCancel() override {
    const auto keep = shared_from_this();
    job_.Cancel();
  }

  void OnQueued(uint32_t position, std::optional<absl::Duration> estimated_wait) override {
    Write(events_.Queued(position, estimated_wait), &AskEvents::Merge);
  }
  void OnProgress(AskStage stage, uint64_t done, uint64_t total) override {
    Write(events_.Progress(stage, done, total), &AskEvents::Merge);
  }
  void OnText(std::string_view text, uint32_t tokens) override;
  void OnAnswer(const Answer& answer) override;
  void OnError(const absl::Status& status) override;

 private:
  AskEvents events_;
  QuestionLog log_;  // used before the engine has the question, and by its events
  CallJob job_;
};

// Submits a question of the call to the engine. Returns refusals; the sink is not called then.
absl::StatusOr<std::shared_ptr<Job>> SubmitAsk(const ServingState& serving,
                                               const v1::AskRequest& request,
                                               const CallIdentity& identity,
                                               const grpc::CallbackServerContext& context,
                                               std::shared_ptr<AskSink> sink);

absl::Time DeadlineOf(const grpc::CallbackServerContext& context);

}  // namespace lectern
