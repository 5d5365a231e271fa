// One Ask: the engine's events of a question as a stream of responses.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <atomic>
#include <memory>
#include <string>

#include "server/engine/engine.h"
#include "server/rpc/call/call_job.h"
#include "server/rpc/call/question_log.h"
#include "server/rpc/call/serving_state.h"
#include "server/rpc/call/stream_writer.h"

namespace lectern {

// Turns engine events into AskResponse messages: numbering, answer id, resume.
class AskEvents {
 public:
  AskEvents(std::string answer_id, uint64_t after_seq);

  v1::AskResponse Queued(uint32_t position) const;
  v1::AskResponse Progress(AskStage stage, uint64_t done, uint64_t total) const;
  // False when the client has seen this delta.
  bool Delta(std::string_view text, uint32_t tokens, v1::AskResponse& out);
  v1::AskResponse Final(const Answer& answer);

  // Merges an event into one of the same kind that waits.
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

  // Hands the question to the engine; ends the call if that refuses.
  void Start(const ServingState& serving, const v1::AskRequest& request);

  void OnCancel() override {
    const auto keep = shared_from_this();
    job_.Cancel();
  }

  void OnQueued(uint32_t position) override { Write(events_.Queued(position), &AskEvents::Merge); }
  void OnProgress(AskStage stage, uint64_t done, uint64_t total) override {
    Write(events_.Progress(stage, done, total), &AskEvents::Merge);
  }
  void OnText(std::string_view text, uint32_t tokens) override;
  void OnAnswer(const Answer& answer) override;
  void OnError(const absl::Status& status) override;

 private:
  AskEvents events_;
  QuestionLog log_;  // until the engine has the question, and in its events
  CallJob job_;
};

// Hands a question of the call to the engine. Refusals are returned, and the sink is not called.
absl::StatusOr<std::shared_ptr<Job>> SubmitAsk(const ServingState& serving,
                                               const v1::AskRequest& request,
                                               const CallIdentity& identity,
                                               const grpc::CallbackServerContext& context,
                                               std::shared_ptr<AskSink> sink);

absl::Time DeadlineOf(const grpc::CallbackServerContext& context);

}  // namespace lectern
