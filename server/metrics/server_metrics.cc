#include "server/metrics/server_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "server/metrics/process_metrics.h"

namespace lectern {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using Buckets = Histogram::BucketBoundaries;

constexpr const char* kMethods[] = {"lectern.v1.DocumentQA/UploadDocument",
                                    "lectern.v1.DocumentQA/GetDocument",
                                    "lectern.v1.DocumentQA/ListDocuments",
                                    "lectern.v1.DocumentQA/DeleteDocument",
                                    "lectern.v1.DocumentQA/Ask",
                                    "lectern.v1.DocumentQA/AskMany",
                                    "lectern.v1.DocumentQA/ListModels",
                                    "lectern.v1.DocumentQA/GetServerStatus",
                                    "grpc.health.v1.Health/Check",
                                    "grpc.health.v1.Health/Watch",
                                    "other"};
constexpr const char* kStatuses[] = {"OK",
                                     "CANCELLED",
                                     "UNKNOWN",
                                     "INVALID_ARGUMENT",
                                     "NOT_FOUND",
                                     "DEADLINE_EXCEEDED",
                                     "ALREADY_EXISTS",
                                     "PERMISSION_DENIED",
                                     "ABORTED",
                                     "RESOURCE_EXHAUSTED",
                                     "OUT_OF_RANGE",
                                     "FAILED_PRECONDITION",
                                     "UNIMPLEMENTED",
                                     "INTERNAL",
                                     "UNAVAILABLE",
                                     "DATA_LOSS",
                                     "UNAUTHENTICATED"};
constexpr const char* kReasons[] = {"none",      "queue_requests", "kv_exhausted", "deadline",
                                    "too_large", "draining",       "invalid"};
constexpr const char* kStages[] = {"queue", "ingest", "prefill", "decode"};
constexpr const char* kFinishes[] = {"stop", "length", "cancelled", "deadline", "error"};
constexpr const char* kSources[] = {"computed", "document_cache"};
constexpr const char* kLookups[] = {"hit", "miss", "evicted"};
constexpr const char* kEvictions[] = {"pressure", "ttl", "deleted"};
constexpr const char* kPhases[] = {"prefill", "decode"};
constexpr const char* kPromptClasses[] = {"le_4k", "le_32k", "le_128k", "gt_128k"};

const Buckets& CallSeconds() {
  static const Buckets b{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                         2.5,   5,     10,   20,    50,   100, 300,  600};
  return b;
}
const Buckets& FirstTextSeconds() {
  static const Buckets b{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,    2.5, 5,
                         10,    20,   40,    80,   160, 320,  640, 1280, 2560};
  return b;
}
const Buckets& InterTokenSeconds() {
  static const Buckets b{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 10};
  return b;
}
const Buckets& RequestSeconds() {
  static const Buckets b{0.1, 0.3, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480, 960};
  return b;
}
const Buckets& CancelSeconds() {
  static const Buckets b{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};
  return b;
}
const Buckets& Ratios() {
  static const Buckets b{0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1};
  return b;
}
Buckets Powers(double first, double last, double factor) {
  Buckets b;
  for (double x = first; x <= last; x *= factor) b.push_back(x);
  return b;
}

template <typename E>
size_t Index(E e) {
  return static_cast<size_t>(e);
}

// Several series of one metric, one for each value of a label.
template <typename T>
class ByLabel {
 public:
  template <typename Names, typename... Args>
  ByLabel(prometheus::Family<T>& family, const char* label, const Names& values,
          const Args&... args) {
    for (const auto& value : values) {
      by_value_[std::string(value)] = &family.Add(Labels{{label, std::string(value)}}, args...);
    }
  }
  // The series of `value`, or of "other".
  T& operator[](std::string_view value) const {
    const auto found = by_value_.find(value);
    return *(found == by_value_.end() ? by_value_.find("other") : found)->second;
  }

 private:
  std::map<std::string, T*, std::less<>> by_value_;
};

class Maker {
 public:
  explicit Maker(prometheus::Registry& registry) : registry_(registry) {}
  prometheus::Family<Counter>& CounterFamily(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
  }
  prometheus::Family<Gauge>& GaugeFamily(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
  }
  prometheus::Family<Histogram>& HistogramFamily(const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
  }
  Gauge& OneGauge(const char* name, const char* help) { return GaugeFamily(name, help).Add({}); }
  Counter& OneCounter(const char* name, const char* help) {
    return CounterFamily(name, help).Add({});
  }
  Histogram& OneHistogram(const char* name, const char* help, const Buckets& buckets) {
    return HistogramFamily(name, help).Add({}, buckets);
  }

 private:
  prometheus::Registry& registry_;
};

size_t PromptClass(uint64_t tokens) {
  return tokens <= 4096 ? 0 : tokens <= 32768 ? 1 : tokens <= 131072 ? 2 : 3;
}

std::vector<std::string> WithOther(std::vector<std::string> names) {
  names.push_back("other");
  return names;
}

}  // namespace

struct ServerMetrics::Metrics {
  explicit Metrics(const std::vector<std::string>& model_names)
      : models(WithOther(model_names)), make(registry) {
    for (const std::string& model : models) {
      for (size_t i = 0; i < std::size(kPromptClasses); ++i) {
        first_text[model][i] = &first_text_family.Add(
            {{"model", model}, {"prompt_class", kPromptClasses[i]}}, FirstTextSeconds());
      }
      for (size_t i = 0; i < std::size(kFinishes); ++i) {
        finished[model][i] =
            &finished_family.Add({{"model", model}, {"finish_reason", kFinishes[i]}});
      }
      for (size_t i = 0; i < std::size(kSources); ++i) {
        prefill_tokens[model][i] =
            &prefill_tokens_family.Add({{"model", model}, {"source", kSources[i]}});
      }
    }
  }

  const std::string& Known(const std::string& model) const {
    return std::find(models.begin(), models.end(), model) == models.end() ? models.back() : model;
  }

  prometheus::Registry registry;
  std::vector<std::string> models;
  Maker make;

  // gRPC.
  ByLabel<Counter> calls_started{
      make.CounterFamily("grpc_server_call_started_total", "RPCs started."), "grpc_method",
      kMethods};
  prometheus::Family<Histogram>& call_seconds = make.HistogramFamily(
      "grpc_server_call_duration_seconds", "Time of an RPC from start to status, every outcome.");
  Gauge& streams_open = make.OneGauge("lectern_streams_open", "Streaming RPCs that are open.");
  Gauge& stream_buffered = make.OneGauge("lectern_stream_buffered_chunks",
                                         "Events waiting for slow readers, over all streams.");

  // Admission and load.
  Gauge& running = make.OneGauge("lectern_requests_running", "Questions and uploads that run.");
  Gauge& waiting = make.OneGauge("lectern_requests_waiting", "Questions and uploads that wait.");
  Gauge& queue_capacity =
      make.OneGauge("lectern_queue_capacity", "Requests that may wait before others are refused.");
  Gauge& prefill_waiting = make.OneGauge("lectern_prefill_tokens_waiting",
                                         "Document tokens of uploads and questions that wait.");
  Gauge& prefill_running =
      make.OneGauge("lectern_prefill_tokens_running", "Tokens still to read of what runs.");
  prometheus::Family<Counter>& admission_family =
      make.CounterFamily("lectern_admission_total", "Requests accepted and refused, by reason.");
  Counter& admitted = admission_family.Add({{"decision", "accepted"}, {"reason", "none"}});
  std::vector<Counter*> rejected = [this] {
    std::vector<Counter*> counters;
    for (const char* reason : kReasons) {
      counters.push_back(&admission_family.Add({{"decision", "rejected"}, {"reason", reason}}));
    }
    return counters;
  }();

  // Questions.
  prometheus::Family<Counter>& finished_family =
      make.CounterFamily("lectern_requests_finished_total", "Questions that ended, by reason.");
  std::map<std::string, std::array<Counter*, std::size(kFinishes)>> finished;
  prometheus::Family<Histogram>& first_text_family = make.HistogramFamily(
      "lectern_time_to_first_token_seconds", "From the request's arrival to its first text.");
  std::map<std::string, std::array<Histogram*, std::size(kPromptClasses)>> first_text;
  ByLabel<Histogram> inter_token{
      make.HistogramFamily("lectern_inter_token_latency_seconds", "Between two tokens."), "model",
      models, InterTokenSeconds()};
  ByLabel<Histogram> request_seconds{
      make.HistogramFamily("lectern_request_duration_seconds", "A question, arrival to end."),
      "model", models, RequestSeconds()};
  ByLabel<Histogram> queue_seconds{
      make.HistogramFamily("lectern_request_queue_seconds", "Waiting for its turn."), "model",
      models, RequestSeconds()};
  ByLabel<Histogram> prefill_seconds{
      make.HistogramFamily("lectern_request_prefill_seconds", "Reading document and question."),
      "model", models, RequestSeconds()};
  ByLabel<Histogram> decode_seconds{
      make.HistogramFamily("lectern_request_decode_seconds", "Generating the answer."), "model",
      models, RequestSeconds()};
  ByLabel<Counter> cancelled{
      make.CounterFamily("lectern_requests_cancelled_total", "Cancelled by the client."), "stage",
      kStages};
  ByLabel<Counter> deadline_exceeded{
      make.CounterFamily("lectern_deadline_exceeded_total", "Ended by their deadline."), "stage",
      kStages};
  ByLabel<Histogram> cancel_to_free{
      make.HistogramFamily("lectern_cancel_to_free_seconds",
                           "From the client's leaving to the release of everything it held."),
      "stage", kStages, CancelSeconds()};

  // Tokens and sizes.
  ByLabel<Counter> prompt_tokens{
      make.CounterFamily("lectern_prompt_tokens_total", "Prompt tokens of finished questions."),
      "model", models};
  ByLabel<Counter> generation_tokens{
      make.CounterFamily("lectern_generation_tokens_total", "Tokens generated."), "model", models};
  prometheus::Family<Counter>& prefill_tokens_family = make.CounterFamily(
      "lectern_prefill_tokens_total", "Prompt tokens computed, and those taken from the cache.");
  std::map<std::string, std::array<Counter*, std::size(kSources)>> prefill_tokens;
  ByLabel<Histogram> request_prompt_tokens{
      make.HistogramFamily("lectern_request_prompt_tokens", "Prompt tokens of a question."),
      "model", models, Powers(256, 4194304, 2)};
  ByLabel<Histogram> request_generation_tokens{
      make.HistogramFamily("lectern_request_generation_tokens", "Tokens of an answer."), "model",
      models, Powers(1, 8192, 2)};
  ByLabel<Histogram> question_tokens{
      make.HistogramFamily("lectern_question_tokens", "Tokens of a question."), "model", models,
      Powers(1, 8192, 2)};
  ByLabel<Histogram> document_tokens{
      make.HistogramFamily("lectern_document_tokens", "Tokens of a document."), "model", models,
      Powers(256, 4194304, 2)};

  // Engine and cache.
  Counter& steps = make.OneCounter("lectern_engine_steps_total", "Model steps: a sign of life.");
  ByLabel<Histogram> step_seconds{
      make.HistogramFamily("lectern_engine_step_seconds", "One model step."), "phase", kPhases,
      InterTokenSeconds()};
  Histogram& batch_size =
      make.OneHistogram("lectern_engine_batch_size", "Sequences of a step.", Powers(1, 128, 2));
  Histogram& batch_tokens =
      make.OneHistogram("lectern_engine_batch_tokens", "Tokens of a step.", Powers(1, 8192, 2));
  Gauge& heartbeat = make.OneGauge("lectern_engine_heartbeat_timestamp_seconds",
                                   "When the engine last made a step or looked for work.");
  Gauge& kv_usage = make.OneGauge("lectern_kv_cache_usage_ratio",
                                  "Share of the key/value memory in use, 0 to 1.");
  Gauge& kv_capacity =
      make.OneGauge("lectern_memory_limit_bytes", "Memory set aside for keys and values.");
  prometheus::Family<Gauge>& cache_config =
      make.GaugeFamily("lectern_cache_config_info", "1; the labels tell the page size.");
  ByLabel<Histogram> kept_mass{
      make.HistogramFamily("lectern_attention_mass_captured_ratio",
                           "Softmax mass of the keys that top-k kept, mean of an answer."),
      "model", models, Ratios()};
  ByLabel<Histogram> selected{
      make.HistogramFamily("lectern_attention_selected_ratio",
                           "Share of the visible keys that top-k kept at the end of an answer."),
      "model", models, Ratios()};

  // Documents.
  Histogram& document_bytes =
      make.OneHistogram("lectern_document_bytes", "Size of a document.", Powers(1024, 67108864, 4));
  Histogram& ingest_seconds = make.OneHistogram(
      "lectern_document_ingest_seconds", "From the last byte to the document.", FirstTextSeconds());
  ByLabel<Gauge> documents_resident{
      make.GaugeFamily("lectern_documents_resident", "Documents held."), "tier",
      std::vector<std::string>{"host"}};
  ByLabel<Gauge> cache_bytes{
      make.GaugeFamily("lectern_document_cache_bytes", "Keys and values of documents."), "tier",
      std::vector<std::string>{"host"}};
  ByLabel<Counter> lookups{
      make.CounterFamily("lectern_document_lookups_total", "Documents looked for by id."), "result",
      kLookups};
  prometheus::Family<Counter>& evictions_family =
      make.CounterFamily("lectern_document_evictions_total", "Documents that left, by reason.");
  std::vector<Counter*> evictions = [this] {
    std::vector<Counter*> counters;
    for (const char* reason : kEvictions) {
      counters.push_back(&evictions_family.Add({{"tier", "host"}, {"reason", reason}}));
    }
    return counters;
  }();

  // Lifecycle.
  Gauge& ready = make.OneGauge("lectern_ready", "1 while the server serves.");
  Gauge& draining = make.OneGauge("lectern_draining", "1 from the signal to stop on.");
  prometheus::Family<Gauge>& build_info =
      make.GaugeFamily("lectern_build_info", "1; the labels tell what was built and runs.");
  prometheus::Family<Gauge>& model_info =
      make.GaugeFamily("lectern_model_info", "1 for each loaded model.");
  prometheus::Family<Gauge>& model_load =
      make.GaugeFamily("lectern_model_load_seconds", "Loading a model, by phase.");
};

ServerMetrics::ServerMetrics(const std::vector<std::string>& model_names)
    : metrics_(std::make_unique<Metrics>(model_names)) {}
ServerMetrics::~ServerMetrics() = default;

std::string ServerMetrics::Render() const {
  std::vector<prometheus::MetricFamily> families = metrics_->registry.Collect();
  for (prometheus::MetricFamily& family : ProcessMetrics().Collect()) {
    families.push_back(std::move(family));
  }
  // A family without a series would be a name that nobody moves.
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

void ServerMetrics::CallStarted(std::string_view method) {
  metrics_->calls_started[method].Increment();
}

void ServerMetrics::CallFinished(std::string_view method, std::string_view status,
                                 absl::Duration duration) {
  const auto known = [](const auto& names, std::string_view name, const char* otherwise) {
    const auto* found = std::find(std::begin(names), std::end(names), name);
    return std::string(found == std::end(names) ? otherwise : *found);
  };
  // Add() returns the series that is already there.
  metrics_->call_seconds
      .Add({{"grpc_method", known(kMethods, method, "other")},
            {"grpc_status", known(kStatuses, status, "UNKNOWN")}},
           CallSeconds())
      .Observe(absl::ToDoubleSeconds(duration));
}

void ServerMetrics::StreamOpened() { metrics_->streams_open.Increment(); }
void ServerMetrics::StreamClosed() { metrics_->streams_open.Decrement(); }
void ServerMetrics::StreamBuffered(int64_t change) {
  metrics_->stream_buffered.Increment(static_cast<double>(change));
}

void ServerMetrics::Admitted() { metrics_->admitted.Increment(); }
void ServerMetrics::Rejected(AdmissionReason reason) {
  metrics_->rejected[Index(reason)]->Increment();
}
void ServerMetrics::SetLoad(uint32_t running, uint32_t waiting) {
  metrics_->running.Set(running);
  metrics_->waiting.Set(waiting);
}
void ServerMetrics::SetQueueCapacity(uint32_t requests) { metrics_->queue_capacity.Set(requests); }
void ServerMetrics::SetPrefillTokens(uint64_t waiting, uint64_t running) {
  metrics_->prefill_waiting.Set(static_cast<double>(waiting));
  metrics_->prefill_running.Set(static_cast<double>(running));
}

void ServerMetrics::RequestFinished(const RequestRecord& r) {
  Metrics& m = *metrics_;
  const std::string& model = m.Known(r.model);
  m.finished.at(model)[Index(r.finish)]->Increment();
  m.request_seconds[model].Observe(absl::ToDoubleSeconds(r.total));
  m.queue_seconds[model].Observe(absl::ToDoubleSeconds(r.queue));
  m.prefill_seconds[model].Observe(absl::ToDoubleSeconds(r.prefill));
  m.decode_seconds[model].Observe(absl::ToDoubleSeconds(r.decode));
  m.prompt_tokens[model].Increment(static_cast<double>(r.prompt_tokens));
  m.generation_tokens[model].Increment(static_cast<double>(r.generated_tokens));
  m.request_prompt_tokens[model].Observe(static_cast<double>(r.prompt_tokens));
  m.request_generation_tokens[model].Observe(static_cast<double>(r.generated_tokens));
  m.question_tokens[model].Observe(static_cast<double>(r.question_tokens));
}

void ServerMetrics::FirstText(const std::string& model, uint64_t prompt_tokens,
                              absl::Duration since_arrival) {
  metrics_->first_text.at(metrics_->Known(model))[PromptClass(prompt_tokens)]->Observe(
      absl::ToDoubleSeconds(since_arrival));
}
void ServerMetrics::InterToken(const std::string& model, absl::Duration gap) {
  metrics_->inter_token[model].Observe(absl::ToDoubleSeconds(gap));
}
void ServerMetrics::Cancelled(WorkStage stage, absl::Duration cancel_to_free) {
  metrics_->cancelled[kStages[Index(stage)]].Increment();
  metrics_->cancel_to_free[kStages[Index(stage)]].Observe(absl::ToDoubleSeconds(cancel_to_free));
}
void ServerMetrics::DeadlineExceeded(WorkStage stage) {
  metrics_->deadline_exceeded[kStages[Index(stage)]].Increment();
}

void ServerMetrics::Step(EnginePhase phase, absl::Duration duration, uint64_t tokens,
                         uint64_t sequences) {
  metrics_->steps.Increment();
  metrics_->step_seconds[kPhases[Index(phase)]].Observe(absl::ToDoubleSeconds(duration));
  metrics_->batch_tokens.Observe(static_cast<double>(tokens));
  metrics_->batch_size.Observe(static_cast<double>(sequences));
}
void ServerMetrics::PrefillTokens(const std::string& model, PrefillSource source, uint64_t tokens) {
  metrics_->prefill_tokens.at(metrics_->Known(model))[Index(source)]->Increment(
      static_cast<double>(tokens));
}
void ServerMetrics::SetHeartbeat(absl::Time time) {
  metrics_->heartbeat.Set(absl::ToDoubleSeconds(time - absl::UnixEpoch()));
}
void ServerMetrics::SetKvCache(uint64_t used_bytes, uint64_t capacity_bytes, uint64_t page_tokens) {
  Metrics& m = *metrics_;
  m.kv_usage.Set(capacity_bytes == 0
                     ? 0
                     : static_cast<double>(used_bytes) / static_cast<double>(capacity_bytes));
  m.kv_capacity.Set(static_cast<double>(capacity_bytes));
  if (page_tokens > 0) m.cache_config.Add({{"block_size", std::to_string(page_tokens)}}).Set(1);
}
void ServerMetrics::AttentionSampled(const std::string& model, double kept_mass,
                                     double selected_ratio) {
  metrics_->kept_mass[model].Observe(kept_mass);
  metrics_->selected[model].Observe(selected_ratio);
}

void ServerMetrics::DocumentRead(const std::string& model, uint64_t bytes, uint64_t tokens,
                                 absl::Duration duration) {
  metrics_->document_bytes.Observe(static_cast<double>(bytes));
  metrics_->document_tokens[model].Observe(static_cast<double>(tokens));
  metrics_->ingest_seconds.Observe(absl::ToDoubleSeconds(duration));
}
void ServerMetrics::SetDocuments(uint64_t resident, uint64_t cache_bytes) {
  metrics_->documents_resident["host"].Set(static_cast<double>(resident));
  metrics_->cache_bytes["host"].Set(static_cast<double>(cache_bytes));
}
void ServerMetrics::DocumentLookup(LookupResult result) {
  metrics_->lookups[kLookups[Index(result)]].Increment();
}
void ServerMetrics::DocumentEvicted(EvictionReason reason) {
  metrics_->evictions[Index(reason)]->Increment();
}

void ServerMetrics::SetBuild(const BuildRecord& build) {
  metrics_->build_info
      .Add({{"version", build.version},
            {"isa", build.isa},
            {"grpc", build.grpc_version},
            {"compiler", build.compiler}})
      .Set(1);
}
void ServerMetrics::SetModel(const std::string& model, const std::string& format,
                             const std::string& quantization, const std::string& digest) {
  metrics_->model_info
      .Add({{"model", model},
            {"format", format},
            {"quantization", quantization},
            {"digest", digest}})
      .Set(1);
}
void ServerMetrics::SetModelLoad(const std::string& model, std::string_view phase,
                                 absl::Duration duration) {
  metrics_->model_load.Add({{"model", model}, {"phase", std::string(phase)}})
      .Set(absl::ToDoubleSeconds(duration));
}
void ServerMetrics::SetReady(bool ready) { metrics_->ready.Set(ready ? 1 : 0); }
void ServerMetrics::SetDraining(bool draining) { metrics_->draining.Set(draining ? 1 : 0); }

}  // namespace lectern
