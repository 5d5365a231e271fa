#include "server/app/server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "kernels/runtime/execution_context.h"
#include "server/app/http_server.h"
#include "server/app/security.h"
#include "server/app/shutdown.h"
#include "server/app/version.h"
#include "server/engine/engine.h"
#include "server/metrics/memory_limit.h"
#include "server/metrics/server_metrics.h"
#include "server/model/device/int8_device.h"
#include "server/model/loading/model_loader.h"
#include "server/rpc/call/serving_state.h"
#include "server/rpc/call/unknown_methods.h"
#include "server/rpc/document_qa/document_qa_service.h"
#include "server/rpc/health/health_service.h"
#include "server/rpc/open_inference/service.h"

namespace lectern {
namespace {

// An engine that has work but makes no step for this long fails the readiness probe, then the
// liveness probe.
constexpr absl::Duration kStaleEngine = absl::Seconds(30);
constexpr absl::Duration kDeadEngine = absl::Seconds(60);
// gRPC's shutdown also waits for idle connections, whose clients may not notice that they should
// close them.
constexpr absl::Duration kGrpcShutdownGrace = absl::Seconds(2);
// Refuse new calls with UNAVAILABLE for at least this long so clients retry elsewhere; calls that
// arrive during gRPC shutdown are CANCELLED, which clients do not retry.
constexpr absl::Duration kMinRefusalTime = absl::Milliseconds(200);

// Waits for the answer to the warm-up question.
class WarmUpSink : public AskSink {
 public:
  void OnQueued(uint32_t, std::optional<absl::Duration>) override {}
  void OnProgress(AskStage, uint64_t, uint64_t) override {}
  void OnText(std::string_view, uint32_t) override {}
  void OnAnswer(const Answer&) override { done_.Notify(); }
  void OnError(const absl::Status& status) override {
    status_ = status;
    done_.Notify();
  }
  absl::Status Wait() {
    done_.WaitForNotification();
    return status_;
  }

 private:
  absl::Notification done_;
  absl::Status status_;
};

// For gRPC, whose INT_MAX means unlimited. 0 here means that, too.
int Milliseconds(absl::Duration duration) {
  const int64_t ms = absl::ToInt64Milliseconds(duration);
  return ms == 0 ? INT_MAX : static_cast<int>(std::min<int64_t>(ms, INT_MAX));
}

// How gRPC is set up; the reasons for each figure are in docs/guides/operations.md.
void Configure(const ConnectionOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  builder.SetMaxSendMessageSize(static_cast<int>(options.max_message_bytes));
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetResourceQuota(grpc::ResourceQuota("lectern").Resize(512 << 20));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                             static_cast<int>(options.max_metadata_bytes));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 15 * 60'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(options.max_age));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                             Milliseconds(options.max_age_grace));
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 5'000);
}

class Server {
 public:
  explicit Server(const Options& options)
      : options_(options), metrics_(ModelNames(options)), threads_(ThreadsOf(options)) {}

  int Run(ShutdownSignals& signals) {
    if (const absl::Status status = Listen(); !status.ok()) return Fail(status, 1);
    if (const absl::Status status = OpenDevice(); !status.ok()) return Fail(status, 1);
    if (const absl::Status status = Load(); !status.ok()) return Fail(status, 3);
    StartEngine();
    if (const absl::Status status = WarmUp(); !status.ok()) return Fail(status, 1);
    signals.StartDraining();
    serving_.Set(ServerState::kServing, "serving");
    metrics_.SetReady(true);
    LogInfo("serving",
            {{"grpc_port", absl::StrCat(grpc_port_)}, {"http_port", absl::StrCat(http_->port())}});
    signals.Wait();
    Drain();
    return 0;
  }

 private:
  static std::vector<std::string> ModelNames(const Options& options) {
    std::vector<std::string> names;
    for (const auto& [name, path] : options.models) names.push_back(name);
    return names;
  }
  static int ThreadsOf(const Options& options) {
    if (options.load.threads > 0) return options.load.threads;
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }

  // Logs the failure and returns the exit code.
  int Fail(const absl::Status& status, int code) {
    LogError("cannot start", {{"error", std::string(status.message())}});
    if (grpc_ != nullptr) grpc_->Shutdown(absl::ToChronoTime(absl::Now()));
    return code;
  }

  // Metrics and health first, so that probes see the server load its models.
  absl::Status Listen() {
    metrics_.SetBuild({.version = kVersion,
                       .isa = kernels::ToString(kernels::DefaultIsa()),
                       .grpc_version = grpc::Version(),
                       .compiler = __VERSION__});
    metrics_.SetMemoryLimit(MemoryLimitBytes());
    LECTERN_ASSIGN_OR_RETURN(http_,
                             HttpServer::Start(options_.metrics_listen,
                                               {{"/metrics", [this] { return Metrics(); }},
                                                {"/startupz", [this] { return StartupProbe(); }},
                                                {"/readyz", [this] { return ReadinessProbe(); }},
                                                {"/livez", [this] { return LivenessProbe(); }}}));
    LECTERN_ASSIGN_OR_RETURN(security_, Security::Create(options_, &metrics_));
    LECTERN_RETURN_IF_ERROR(ListenGrpc());
    return WritePorts();
  }

  absl::Status ListenGrpc() {
    const RpcEnvironment environment{
        .metrics = &metrics_,
        .version = kVersion,
        .slow_reader_timeout = options_.connections.slow_reader_timeout,
        .log_prompts = options_.log.prompts,
        .tokens = security_->tokens()};
    qa_ = NewDocumentQaService(
        &serving_, environment,
        {.isa = kernels::ToString(kernels::DefaultIsa()),
         .threads = static_cast<uint32_t>(threads_),
         .max_message_bytes = static_cast<uint32_t>(options_.connections.max_message_bytes)});
    open_inference_ = NewOpenInferenceService(&serving_, environment);
    health_ = NewHealthService(&serving_, environment);
    unknown_ = NewUnknownMethodService(environment);
    grpc::EnableDefaultHealthCheckService(false);
    if (options_.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    Configure(options_.connections, builder);
    builder.AddListeningPort(options_.listen, security_->credentials(), &grpc_port_);
    builder.RegisterService(qa_.get());
    builder.RegisterService(open_inference_.get());
    builder.RegisterService(health_.get());
    builder.RegisterCallbackGenericService(unknown_.get());
    grpc_ = builder.BuildAndStart();
    if (grpc_ == nullptr || grpc_port_ == 0) {
      return absl::UnavailableError(absl::StrCat("cannot listen on ", options_.listen));
    }
    return absl::OkStatus();
  }

  absl::Status WritePorts() {
    if (options_.port_file.empty()) return absl::OkStatus();
    // Renamed into place, so that nobody who waits for the file reads half of it.
    const std::string temporary = options_.port_file + ".tmp";
    std::ofstream file(temporary);
    file << "{\"grpc\": " << grpc_port_ << ", \"http\": " << http_->port() << "}\n";
    file.close();
    if (!file || std::rename(temporary.c_str(), options_.port_file.c_str()) != 0) {
      return absl::InternalError(absl::StrCat("cannot write ", options_.port_file));
    }
    return absl::OkStatus();
  }

  absl::Status OpenDevice() {
    if (options_.device != DeviceKind::kCuda) return absl::OkStatus();
    LECTERN_ASSIGN_OR_RETURN(
        device_, Int8Device::OpenCuda([this](std::string_view code) { metrics_.CudaError(code); }));
    LogInfo("device opened", {{"device", device_->name()}});
    return absl::OkStatus();
  }

  absl::Status Load() {
    for (const auto& [name, path] : options_.models) {
      ModelLoadOptions load = options_.load;
      load.name = name;
      load.path = path;
      if (const auto settings = options_.settings.find(name); settings != options_.settings.end()) {
        load.settings = settings->second;
      }
      load.threads = threads_;
      load.device = device_;
      LECTERN_ASSIGN_OR_RETURN(auto model, LoadModel(load));
      const ModelInfo& info = model->info();
      metrics_.SetModel(name, info.format, info.quantization, info.fingerprint.substr(0, 16));
      metrics_.SetModelLoadTime(name, "read", info.load_time);
      if (info.prompt_format_guessed) {
        LogWarning(
            "chat template is not known, so the prompt format is a guess; set it with "
            "--prompt_format",
            {{"model", name},
             {"prompt_format", info.prompt_format},
             {"reason", info.prompt_format_reason}});
      }
      LogInfo("model loaded", {{"model", name},
                               {"family", info.family},
                               {"quantization", info.quantization},
                               {"numerics", info.numerics},
                               {"context_length", info.context_length},
                               {"prompt_format", info.prompt_format},
                               {"prompt_format_reason", info.prompt_format_reason},
                               {"duration", absl::FormatDuration(info.load_time)}});
      if (info.kind == ModelKind::kExtractive) {
        const auto& threshold = info.no_answer_threshold;
        LogInfo("span reader",
                {{"model", name}, {"no_answer", threshold ? absl::StrCat(*threshold) : "off"}});
      }
      models_.push_back(std::move(model));
    }
    return absl::OkStatus();
  }

  void StartEngine() {
    engine_ = Engine::Create(options_.engine, models_, &Clock::Real(), &metrics_);
  }

  // Asks every model one question, so that the first caller does not wait for what is set up once.
  absl::Status WarmUp() {
    serving_.Set(ServerState::kWarmingUp, "answering a first question");
    for (const auto& model : models_) {
      const absl::Time start = absl::Now();
      const auto sink = std::make_shared<WarmUpSink>();
      LECTERN_RETURN_IF_ERROR(engine_
                                  ->Ask({.inline_text = "The sky is blue.",
                                         .question = "What colour is the sky?",
                                         .model = model->info().name,
                                         .max_new_tokens = 2},
                                        sink)
                                  .status());
      LECTERN_RETURN_IF_ERROR(sink->Wait());
      metrics_.SetModelLoadTime(model->info().name, "warmup", absl::Now() - start);
    }
    serving_.SetEngine(engine_.get());
    return absl::OkStatus();
  }

  void Drain() {
    LogInfo("draining", {{"timeout", absl::FormatDuration(options_.drain_timeout)}});
    serving_.Set(ServerState::kDraining, "the server is shutting down");
    metrics_.SetReady(false);
    metrics_.SetDraining(true);
    absl::SleepFor(options_.lame_duck);
    engine_->StopAccepting();
    const absl::Time refusing = absl::Now();
    if (!engine_->WaitUntilIdle(absl::Now() + options_.drain_timeout)) {
      LogWarning("drain timeout expired; ending the calls that are still running");
    }
    engine_->Stop();
    absl::SleepFor(refusing + kMinRefusalTime - absl::Now());
    serving_.Set(ServerState::kStopped, "the server is shutting down");
    grpc_->Shutdown(absl::ToChronoTime(absl::Now() + kGrpcShutdownGrace));
    LogInfo("stopped");
  }

  HttpReply Metrics() const {
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics_.Render()};
  }
  HttpReply StartupProbe() const {
    const ServerState state = serving_.state();
    const bool started = state == ServerState::kServing || state == ServerState::kDraining;
    return {.code = started ? 200 : 503, .body = serving_.explanation() + "\n"};
  }
  absl::Duration EngineSilence() const {
    const Engine* engine = serving_.engine();
    if (engine == nullptr) return absl::ZeroDuration();
    const EngineStatus status = engine->status();
    const bool work = status.running + status.waiting > 0;
    return work ? absl::Now() - engine->heartbeat() : absl::ZeroDuration();
  }
  HttpReply ReadinessProbe() const {
    if (serving_.state() != ServerState::kServing) {
      return {.code = 503, .body = serving_.explanation() + "\n"};
    }
    if (EngineSilence() > kStaleEngine) return {.code = 503, .body = "the engine is silent\n"};
    return {.body = "ready\n"};
  }
  HttpReply LivenessProbe() const {
    if (EngineSilence() > kDeadEngine) return {.code = 503, .body = "the engine is silent\n"};
    return {.body = "alive\n"};
  }

  const Options& options_;
  ServerMetrics metrics_;
  const int threads_;
  ServingState serving_;
  std::shared_ptr<Int8Device> device_;  // null: the CPU alone
  std::vector<std::shared_ptr<const Model>> models_;
  // Destroyed in reverse order: gRPC and HTTP before what their handlers use.
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Security> security_;
  std::unique_ptr<grpc::Service> qa_;
  std::unique_ptr<grpc::Service> open_inference_;
  std::unique_ptr<grpc::Service> health_;
  std::unique_ptr<grpc::CallbackGenericService> unknown_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HttpServer> http_;
  int grpc_port_ = 0;
};

}  // namespace

int RunServer(const Options& options, ShutdownSignals& signals) {
  return Server(options).Run(signals);
}

}  // namespace lectern
