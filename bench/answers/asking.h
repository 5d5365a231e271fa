// Puts documents and questions to an engine in this process and waits for what comes back.
#pragma once

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "server/engine/engine.h"

namespace lectern {

// Ends the program: a measurement that went wrong is none.
[[noreturn]] inline void Fail(const std::string& message) {
  std::cerr << message << "\n";
  std::exit(2);
}

// Waits for the end of a job.
template <typename Sink, typename Result>
class Waiting : public Sink {
 public:
  void OnError(const absl::Status& status) override { End({}, status); }
  absl::StatusOr<Result> Wait() {
    MutexLock lock(&mutex_);
    mutex_.Await([this] { return ended_; });
    if (!status_.ok()) return status_;
    return result_;
  }

 protected:
  void End(const Result& result, const absl::Status& status) {
    MutexLock lock(&mutex_);
    result_ = result;
    status_ = status;
    ended_ = true;
  }

 private:
  Mutex mutex_;
  bool ended_ = false;
  Result result_;
  absl::Status status_;
};

class AskWaiting : public Waiting<AskSink, Answer> {
 public:
  void OnQueued(uint32_t, std::optional<absl::Duration>) override {}
  void OnProgress(AskStage, uint64_t, uint64_t) override {}
  void OnText(std::string_view, uint32_t) override {}
  void OnAnswer(const Answer& answer) override { End(answer, absl::OkStatus()); }
};

class UploadWaiting : public Waiting<UploadSink, DocumentInfo> {
 public:
  void OnProgress(UploadStage, uint64_t, uint64_t) override {}
  void OnDocument(const DocumentInfo& document) override { End(document, absl::OkStatus()); }
};

// The stored document. Fails as Fail() does.
inline DocumentInfo UploadAndWait(Engine* engine, const std::string& text,
                                  const UploadOptions& options) {
  auto upload = engine->StartUpload(options);
  if (!upload.ok()) Fail(upload.status().ToString());
  if (const absl::Status status = (*upload)->Append(text); !status.ok()) Fail(status.ToString());
  auto sink = std::make_shared<UploadWaiting>();
  if (auto job = (*upload)->Finish(sink); !job.ok()) Fail(job.status().ToString());
  auto document = sink->Wait();
  if (!document.ok()) Fail(document.status().ToString());
  return *document;
}

inline Answer AskAndWait(Engine* engine, const AskOptions& options) {
  auto sink = std::make_shared<AskWaiting>();
  if (auto job = engine->Ask(options, sink); !job.ok()) Fail(job.status().ToString());
  auto answer = sink->Wait();
  if (!answer.ok()) Fail(answer.status().ToString());
  return *answer;
}

}  // namespace lectern
