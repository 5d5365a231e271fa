// One AskMany stream: many questions, each under its own tag.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <map>
#include <memory>
#include <string>

#include "server/rpc/ask_call.h"

namespace lectern {

inline constexpr uint32_t kMaxOpenAsksPerStream = 32;
// A client that does not read is not read from either, once this many events wait for it.
inline constexpr size_t kMaxBacklogPerStream = 256;

class AskManyCall final
    : public StreamWriter<grpc::ServerBidiReactor<v1::AskManyRequest, v1::AskManyResponse>,
                          v1::AskManyResponse> {
 public:
  AskManyCall(const RpcEnvironment* environment, const ServingState& serving,
              grpc::CallbackServerContext* context)
      : StreamWriter(environment, "lectern.v1.DocumentQA/AskMany", context), serving_(serving) {}

  void Start();
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;

 private:
  class TaggedSink;
  // An open question; its job is set once the engine has taken it.
  struct OpenAsk {
    std::shared_ptr<Job> job;
    bool cancelled = false;
  };

  static bool Merge(v1::AskManyResponse& last, const v1::AskManyResponse& next);

  void Handle(const v1::AskManyRequest& request);
  absl::StatusOr<std::shared_ptr<Job>> Submit(const v1::AskRequest& request,
                                              std::shared_ptr<AskSink> sink);
  void CancelTag(const std::string& tag);
  void WriteError(const std::string& tag, const absl::Status& status);
  // The question of `tag` has ended: makes room for the next, or ends the stream.
  void Close(const std::string& tag);
  // Reads the next message if there is room for a question and for its events.
  void ReadIfRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<AskManyCall> Self() {
    return std::static_pointer_cast<AskManyCall>(shared_from_this());
  }

  const ServingState& serving_;
  v1::AskManyRequest request_;  // being read
  absl::Mutex mutex_;
  std::map<std::string, OpenAsk> open_ ABSL_GUARDED_BY(mutex_);
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lectern
