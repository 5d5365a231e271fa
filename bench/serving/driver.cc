#include "bench/serving/driver.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "lectern/client.h"

extern char** environ;

namespace lectern::bench {
namespace {

constexpr int kStreamsPerConnection = 100;  // the server allows 128
constexpr auto kProbePause = std::chrono::milliseconds(100);

void SleepUntil(SteadyClock::time_point time) { std::this_thread::sleep_until(time); }

SteadyClock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
}

// Collects processes that have ended.
void Reap() {
  while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
}

}  // namespace

std::unique_ptr<Stub> NewConnection(const std::string& server, int number) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt("lectern.load.connection", number);
  return lectern::v1::DocumentQA::NewStub(
      grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments));
}

Driver::Driver(const LoadOptions& options, std::string program)
    : options_(options), program_(std::move(program)), workload_(options) {
  for (int i = 0; i < options_.connections; ++i) {
    stubs_.push_back(NewConnection(options_.server, i));
  }
}

absl::Status Driver::Prepare() {
  Client client(options_.server);
  lectern::v1::UploadMetadata metadata;
  metadata.set_pinned(true);
  for (int i = 0; i < options_.documents; ++i) {
    const std::string text = DocumentText(static_cast<uint64_t>(i), options_.document_tokens);
    CallOptions call;
    call.retry.when_full = true;
    LECTERN_ASSIGN_OR_RETURN(const auto document, client.Upload(text, metadata, call, nullptr));
    documents_.push_back(document.id());
  }
  return absl::OkStatus();
}

nlohmann::json Driver::Run() {
  recorder_ = std::make_unique<Recorder>(options_.warmup, options_.seconds);
  options_.clients > 0 ? ClosedLoop() : OpenLoop();
  nlohmann::json probes = options_.probe > 0 ? Probe() : nlohmann::json::array();
  WaitUntilDone();
  nlohmann::json report = recorder_->Report();
  report["probes"] = std::move(probes);
  return report;
}

void Driver::OpenLoop() {
  // Arrivals do not wait for answers, or there would be no overload.
  auto next = SteadyClock::now();
  while (recorder_->Now() < options_.seconds) {
    Start(/*again=*/false);
    Reap();
    double gap = 0;
    {
      absl::MutexLock lock(&mutex_);
      gap = workload_.NextGap();
    }
    next += Seconds(gap);
    SleepUntil(next);
  }
}

void Driver::ClosedLoop() {
  for (int i = 0; i < options_.clients; ++i) Start(/*again=*/true);
  while (recorder_->Now() < options_.seconds) {
    Reap();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void Driver::Start(bool again) {
  Kind kind;
  AskPlan plan;
  std::string text;
  Stub* stub;
  {
    absl::MutexLock lock(&mutex_);
    do {
      kind = workload_.NextKind();
      plan = {.kind = kind,
              .request = workload_.NextAsk(documents_),
              .cancel_after = 1 + static_cast<int>(workload_.Below(6)),
              .deadline = options_.deadline};
      // A crashed process makes no further call.
      if (kind == Kind::kCrash) Crash(plan.request.document_id());
    } while (kind == Kind::kCrash && again);
    if (kind == Kind::kCrash) return;
    if (kind == Kind::kUpload) text = workload_.NextUpload();
    stub = stubs_[next_stub_++ % stubs_.size()].get();
    ++open_;
  }
  recorder_->Sent();
  const auto done = [this, again](const CallResult& result) {
    recorder_->Done(result);
    if (again && recorder_->Now() < options_.seconds) Start(again);
    absl::MutexLock lock(&mutex_);
    --open_;
  };
  if (kind == Kind::kUpload) return StartUpload(*stub, std::move(text), options_.deadline, done);
  StartAsk(*stub, std::move(plan), recorder_.get(), done);
}

void Driver::Crash(const std::string& document) {
  const std::string server = absl::StrCat("--server=", options_.server);
  const std::string crash = absl::StrCat("--crash_with=", document);
  char* argv[] = {const_cast<char*>(program_.c_str()), const_cast<char*>(server.c_str()),
                  const_cast<char*>(crash.c_str()), nullptr};
  pid_t pid;
  posix_spawn(&pid, program_.c_str(), nullptr, nullptr, argv, environ);
  recorder_->Sent();
}

void Driver::WaitUntilDone() {
  absl::MutexLock lock(&mutex_);
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_ == 0; };
  mutex_.Await(absl::Condition(&done));
  Reap();
}

nlohmann::json Driver::Probe() {
  nlohmann::json probes = nlohmann::json::array();
  const auto begin = SteadyClock::now();
  while (SteadyClock::now() - begin < Seconds(options_.probe)) {
    const auto start = SteadyClock::now();
    lectern::v1::AskRequest request;
    {
      absl::MutexLock lock(&mutex_);
      request = workload_.NextAsk(documents_);
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(static_cast<int64_t>(options_.deadline * 1e3)));
    auto stream = stubs_[0]->Ask(&context, request);
    double first_text = -1;
    for (lectern::v1::AskResponse response; stream->Read(&response);) {
      if (!response.has_delta() || first_text >= 0) continue;
      first_text = std::chrono::duration<double, std::milli>(SteadyClock::now() - start).count();
    }
    if (!stream->Finish().ok()) first_text = -1;
    probes.push_back({std::chrono::duration<double>(start - begin).count(), first_text});
    std::this_thread::sleep_for(kProbePause);
  }
  return probes;
}

void AskAndCrash(const LoadOptions& options) {
  const auto stub = NewConnection(options.server, 0);
  lectern::v1::AskRequest request;
  request.set_document_id(options.crash_with);
  request.set_question("What happened?");
  grpc::ClientContext context;
  auto stream = stub->Ask(&context, request);
  for (lectern::v1::AskResponse response; stream->Read(&response);) {
    if (response.has_delta()) kill(getpid(), SIGKILL);
  }
  stream->Finish();
}

void HoldStreams(const LoadOptions& options) {
  struct Held {
    grpc::ClientContext context;
    std::unique_ptr<
        grpc::ClientReaderWriter<lectern::v1::AskManyRequest, lectern::v1::AskManyResponse>>
        stream;
  };
  std::vector<std::unique_ptr<Stub>> stubs;
  std::vector<std::unique_ptr<Held>> held;
  const auto begin = SteadyClock::now();
  const int count = static_cast<int>(options.leak * options.seconds);
  for (int i = 0; i < count; ++i) {
    SleepUntil(begin + Seconds(i / options.leak));
    if (i % kStreamsPerConnection == 0) {
      stubs.push_back(NewConnection(options.server, static_cast<int>(stubs.size())));
    }
    held.push_back(std::make_unique<Held>());
    held.back()->stream = stubs.back()->AskMany(&held.back()->context);
  }
  std::printf("held\n");
  std::fflush(stdout);
  pause();
}

}  // namespace lectern::bench
