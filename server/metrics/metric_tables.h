// The names: every metric of the server but process_*, with help text, labels and buckets, by what
// it tells about. docs/reference/metrics.md lists them; a test holds both against a live scrape.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "server/metrics/series.h"

namespace lectern {

inline constexpr const char* kMethods[] = {"lectern.v1.DocumentQA/UploadDocument",
                                           "lectern.v1.DocumentQA/GetDocument",
                                           "lectern.v1.DocumentQA/ListDocuments",
                                           "lectern.v1.DocumentQA/DeleteDocument",
                                           "lectern.v1.DocumentQA/Ask",
                                           "lectern.v1.DocumentQA/AskMany",
                                           "lectern.v1.DocumentQA/ListModels",
                                           "lectern.v1.DocumentQA/GetServerStatus",
                                           "inference.GRPCInferenceService/ServerLive",
                                           "inference.GRPCInferenceService/ServerReady",
                                           "inference.GRPCInferenceService/ModelReady",
                                           "inference.GRPCInferenceService/ServerMetadata",
                                           "inference.GRPCInferenceService/ModelMetadata",
                                           "inference.GRPCInferenceService/ModelInfer",
                                           "inference.GRPCInferenceService/ModelStreamInfer",
                                           "inference.GRPCInferenceService/ModelConfig",
                                           "grpc.health.v1.Health/Check",
                                           "grpc.health.v1.Health/Watch",
                                           "other"};
inline constexpr const char* kStatuses[] = {"OK",
                                            "CANCELLED",
                                            "UNKNOWN",
                                            "INVALID_ARGUMENT",
                                            "NOT_FOUND",
                                            "ALREADY_EXISTS",
                                            "PERMISSION_DENIED",
                                            "DEADLINE_EXCEEDED",
                                            "ABORTED",
                                            "OUT_OF_RANGE",
                                            "UNIMPLEMENTED",
                                            "RESOURCE_EXHAUSTED",
                                            "INTERNAL",
                                            "UNAVAILABLE",
                                            "DATA_LOSS",
                                            "FAILED_PRECONDITION",
                                            "UNAUTHENTICATED"};
// In the order of the enums of server_metrics.h.
inline constexpr const char* kReasons[] = {
    "none",     "queue_requests", "queue_tokens", "queue_wait", "kv_exhausted", "client_quota",
    "deadline", "too_large",      "draining",     "invalid",    "auth"};
inline constexpr const char* kReloads[] = {"ok", "error"};
inline constexpr const char* kStages[] = {"queue", "ingest", "prefill", "decode"};
inline constexpr const char* kFinishes[] = {"stop", "length", "cancelled", "deadline", "error"};
inline constexpr const char* kSources[] = {"computed", "document_cache"};
inline constexpr const char* kLookups[] = {"hit", "miss", "evicted"};
inline constexpr const char* kCacheFaults[] = {"missing", "unreadable", "truncated", "foreign",
                                               "version", "corrupt",    "stale",     "other"};
inline constexpr const char* kTiers[] = {"host", "disk"};
inline constexpr const char* kEvictions[] = {"pressure", "ttl", "deleted", "quota", "corrupt"};
inline constexpr const char* kPhases[] = {"prefill", "decode", "mixed"};
inline constexpr const char* kExactness[] = {"exact", "within_bound", "violated"};
// The errors of a GPU at work; whatever else CUDA reports counts as "other".
inline constexpr const char* kCudaErrors[] = {
    "cudaErrorMemoryAllocation",   "cudaErrorLaunchFailure",
    "cudaErrorIllegalAddress",     "cudaErrorECCUncorrectable",
    "cudaErrorHardwareStackError", "cudaErrorLaunchTimeout",
    "cudaErrorDevicesUnavailable", "other"};
inline constexpr const char* kPromptClasses[] = {"le_4k", "le_32k", "le_128k", "gt_128k"};

// Every list ends a bucket at the objectives and alarms that count on it.
inline const Buckets kCallSeconds{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                  2.5,   5,     10,   20,    50,   100, 300,  600};
inline const Buckets kCallBytes{0,       1 << 10, 4 << 10, 16 << 10, 64 << 10,
                                1 << 18, 1 << 20, 4 << 20, 16 << 20, 64 << 20};
inline const Buckets kFirstTextSeconds{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,    2.5, 5,
                                       10,    20,   40,    80,   160, 320,  640, 1280, 2560};
inline const Buckets kInterTokenSeconds{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                        0.2,   0.3,  0.5,   1,    2.5,   10};
inline const Buckets kRequestSeconds{0.1, 0.3, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 240, 480, 960};
inline const Buckets kCancelSeconds{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};
inline const Buckets kRatios{0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1};
inline const Buckets kPromptTokens = Powers(256, 4194304, 2);
inline const Buckets kShortTokens = Powers(1, 8192, 2);

// gRPC calls and their streams; the first four names are those of gRFC A66.
struct CallMetrics {
  Maker make;
  ByLabel<Counter> started{make.Counters("grpc_server_call_started_total", "RPCs started."),
                           "grpc_method", kMethods};
  prometheus::Family<Histogram>& seconds = make.Histograms(
      "grpc_server_call_duration_seconds", "Time of an RPC from start to status, every outcome.");
  prometheus::Family<Histogram>& sent_bytes =
      make.Histograms("grpc_server_call_sent_total_compressed_message_size_bytes",
                      "Bytes of the messages of an RPC to the client.");
  prometheus::Family<Histogram>& received_bytes =
      make.Histograms("grpc_server_call_rcvd_total_compressed_message_size_bytes",
                      "Bytes of the messages of an RPC from the client.");
  Gauge& streams_open = make.OneGauge("lectern_streams_open", "Streaming RPCs that are open.");
  Gauge& buffered = make.OneGauge("lectern_stream_buffered_chunks",
                                  "Events waiting for slow readers, over all streams.");
  Counter& slow_readers =
      make.OneCounter("lectern_slow_reader_disconnects_total",
                      "Streams ended because their reader took no message for too long.");
};

// Admission and load. The gateway's endpoint picker reads one arbitrary series of the names without
// labels, so that those have none.
struct LoadMetrics {
  Maker make;
  const std::vector<std::string>& models;
  Gauge& running = make.OneGauge("lectern_requests_running", "Questions and uploads that run.");
  Gauge& waiting = make.OneGauge("lectern_requests_waiting", "Questions and uploads that wait.");
  ByLabel<Gauge> model_running{
      make.Gauges("lectern_model_requests_running", "Questions and uploads that run."), "model",
      models};
  ByLabel<Gauge> model_waiting{
      make.Gauges("lectern_model_requests_waiting", "Questions and uploads that wait."), "model",
      models};
  Gauge& queue_capacity =
      make.OneGauge("lectern_queue_capacity", "Requests that may wait before others are refused.");
  Gauge& prefill_waiting = make.OneGauge("lectern_prefill_tokens_waiting",
                                         "Document tokens of uploads and questions that wait.");
  Gauge& prefill_running =
      make.OneGauge("lectern_prefill_tokens_running", "Tokens still to read of what runs.");
  Gauge& estimated_wait =
      make.OneGauge("lectern_admission_estimated_wait_seconds",
                    "How long a question that arrives now would wait, at the learned rates.");
  prometheus::Family<Counter>& admission =
      make.Counters("lectern_admission_total", "Requests accepted and refused, by reason.");
  Counter& admitted = admission.Add({{"decision", "accepted"}, {"reason", "none"}});
  ByLabel<Counter> rejected{admission, "reason", kReasons, {{"decision", "rejected"}}};
};

// Questions: outcomes, latency, tokens.
struct QuestionMetrics {
  Maker make;
  const std::vector<std::string>& models;
  prometheus::Family<Counter>& finished_family =
      make.Counters("lectern_requests_finished_total", "Questions that ended, by reason.");
  ByModel<Counter> finished{finished_family, models, "finish_reason", kFinishes};
  prometheus::Family<Histogram>& first_text_family = make.Histograms(
      "lectern_time_to_first_token_seconds", "From the request's arrival to its first text.");
  ByModel<Histogram> first_text{first_text_family, models, "prompt_class", kPromptClasses,
                                kFirstTextSeconds};
  ByLabel<Histogram> inter_token =
      Timed("lectern_inter_token_latency_seconds", "Between two tokens.", kInterTokenSeconds);
  ByLabel<Histogram> seconds =
      Timed("lectern_request_duration_seconds", "A question, arrival to end.", kRequestSeconds);
  ByLabel<Histogram> queue_seconds =
      Timed("lectern_request_queue_seconds", "Waiting for its turn.", kRequestSeconds);
  ByLabel<Histogram> prefill_seconds =
      Timed("lectern_request_prefill_seconds", "Reading document and question.", kRequestSeconds);
  ByLabel<Histogram> decode_seconds =
      Timed("lectern_request_decode_seconds", "Generating the answer.", kRequestSeconds);
  ByLabel<Counter> cancelled{
      make.Counters("lectern_requests_cancelled_total", "Cancelled by the client."), "stage",
      kStages};
  ByLabel<Counter> deadline_exceeded{
      make.Counters("lectern_deadline_exceeded_total", "Ended by their deadline."), "stage",
      kStages};
  ByLabel<Histogram> cancel_to_free{
      make.Histograms("lectern_cancel_to_free_seconds",
                      "From the client's leaving to the release of everything it held."),
      "stage",
      kStages,
      {},
      kCancelSeconds};
  ByLabel<Counter> prompt_tokens{
      make.Counters("lectern_prompt_tokens_total", "Prompt tokens of finished questions."), "model",
      models};
  ByLabel<Counter> generation_tokens{
      make.Counters("lectern_generation_tokens_total", "Tokens generated."), "model", models};
  ByLabel<Histogram> request_prompt_tokens =
      Timed("lectern_request_prompt_tokens", "Prompt tokens of a question.", kPromptTokens);
  ByLabel<Histogram> request_generation_tokens =
      Timed("lectern_request_generation_tokens", "Tokens of an answer.", kShortTokens);
  ByLabel<Histogram> question_tokens =
      Timed("lectern_question_tokens", "Tokens of a question.", kShortTokens);

  ByLabel<Histogram> Timed(const char* name, const char* help, const Buckets& buckets) {
    return ByLabel<Histogram>(make.Histograms(name, help), "model", models, {}, buckets);
  }
};

// The engine's steps, its caches of keys and values, and what top-k attention kept.
struct EngineMetrics {
  Maker make;
  const std::vector<std::string>& models;
  Counter& steps = make.OneCounter("lectern_engine_steps_total", "Model steps: a sign of life.");
  ByLabel<Histogram> step_seconds{make.Histograms("lectern_engine_step_seconds", "One model step."),
                                  "phase",
                                  kPhases,
                                  {},
                                  kInterTokenSeconds};
  ByLabel<Counter> step_tokens{
      make.Counters("lectern_engine_tokens_total", "Tokens of all steps, read and generated."),
      "phase", std::vector<std::string>{"prefill", "decode"}};
  Histogram& batch_size =
      make.OneHistogram("lectern_engine_batch_size", "Sequences of a step.", Powers(1, 128, 2));
  Histogram& batch_tokens =
      make.OneHistogram("lectern_engine_batch_tokens", "Tokens of a step.", kShortTokens);
  Gauge& heartbeat = make.OneGauge("lectern_engine_heartbeat_timestamp_seconds",
                                   "When the engine last made a step or looked for work.");
  Gauge& kv_usage = make.OneGauge("lectern_kv_cache_usage_ratio",
                                  "Share of the key/value memory in use, 0 to 1.");
  Gauge& kv_capacity =
      make.OneGauge("lectern_kv_cache_capacity_bytes", "Memory set aside for keys and values.");
  prometheus::Family<Gauge>& cache_config =
      make.Gauges("lectern_cache_config_info", "1; the labels tell the page size.");
  prometheus::Family<Counter>& prefill_tokens_family = make.Counters(
      "lectern_prefill_tokens_total", "Prompt tokens computed, and those taken from the cache.");
  ByModel<Counter> prefill_tokens{prefill_tokens_family, models, "source", kSources};
  ByLabel<Counter> cache_queries{make.Counters("lectern_prefix_cache_query_tokens_total",
                                               "Prompt tokens whose keys and values were needed."),
                                 "model", models};
  ByLabel<Counter> cache_hits{make.Counters("lectern_prefix_cache_hit_tokens_total",
                                            "Those of them that a read document had ready."),
                              "model", models};
  ByLabel<Counter> kv_evictions{
      make.Counters("lectern_kv_cache_evictions_total",
                    "Keys and values that made room for others, of each document and policy."),
      "model", models};
  ByLabel<Histogram> kept_mass{
      make.Histograms("lectern_attention_mass_captured_ratio",
                      "Softmax mass of the keys that top-k kept, mean of an answer."),
      "model",
      models,
      {},
      kRatios};
  ByLabel<Histogram> selected{
      make.Histograms("lectern_attention_selected_ratio",
                      "Share of the visible keys that top-k kept at the end of an answer."),
      "model",
      models,
      {},
      kRatios};
  ByLabel<Histogram> ffn_active{
      make.Histograms("lectern_ffn_active_ratio",
                      "Share of the feed-forward units that an answer computed."),
      "model",
      models,
      {},
      kRatios};
  ByLabel<Counter> cuda_errors{
      make.Counters("lectern_cuda_errors_total",
                    "Errors of the GPU; from the first one on, the CPU makes all products."),
      "code", kCudaErrors};
  ByLabel<Counter> exactness{make.Counters("lectern_exactness_checks_total",
                                           "Answers held against the error they were allowed."),
                             "result", kExactness};
};

// Documents: reading them, keeping them in memory and on disk.
struct DocumentMetrics {
  Maker make;
  const std::vector<std::string>& models;
  Histogram& bytes =
      make.OneHistogram("lectern_document_bytes", "Size of a document.", Powers(1024, 67108864, 4));
  ByLabel<Histogram> tokens{make.Histograms("lectern_document_tokens", "Tokens of a document."),
                            "model",
                            models,
                            {},
                            kPromptTokens};
  Histogram& ingest_seconds = make.OneHistogram(
      "lectern_document_ingest_seconds", "From the last byte to the document.", kFirstTextSeconds);
  Histogram& reload_seconds = make.OneHistogram(
      "lectern_document_reload_seconds", "Taking a document from disk instead of reading it again.",
      kFirstTextSeconds);
  ByLabel<Gauge> resident{make.Gauges("lectern_documents_resident", "Documents held."), "tier",
                          kTiers};
  ByLabel<Gauge> cache_bytes{
      make.Gauges("lectern_document_cache_bytes", "Keys and values of documents."), "tier", kTiers};
  ByLabel<Counter> lookups{
      make.Counters("lectern_document_lookups_total", "Documents looked for by id."), "result",
      kLookups};
  prometheus::Family<Counter>& evictions_family =
      make.Counters("lectern_document_evictions_total", "Documents that left a tier, by reason.");
  std::array<ByLabel<Counter>, 2> evictions{
      ByLabel<Counter>(evictions_family, "reason", kEvictions, {{"tier", kTiers[0]}}),
      ByLabel<Counter>(evictions_family, "reason", kEvictions, {{"tier", kTiers[1]}})};
  Counter& disk_errors =
      make.OneCounter("lectern_cache_disk_errors_total",
                      "Failures to write or read the cache folder; memory serves on.");
  ByLabel<Counter> cache_rejected{
      make.Counters("lectern_document_cache_rejected_total",
                    "Files of the cache folder that were not believed and removed, by reason."),
      "reason", kCacheFaults};
  Gauge& cache_available =
      make.OneGauge("lectern_document_cache_available", "1 while documents are kept on disk, too.");
};

// What runs, and in which state.
struct LifecycleMetrics {
  Maker make;
  Gauge& ready = make.OneGauge("lectern_ready", "1 while the server serves.");
  Gauge& draining = make.OneGauge("lectern_draining", "1 from the signal to stop on.");
  Gauge& memory_limit =
      make.OneGauge("lectern_memory_limit_bytes",
                    "Memory the process may use: its control group's limit, or the machine's.");
  prometheus::Family<Gauge>& build_info =
      make.Gauges("lectern_build_info", "1; the labels tell what was built and runs.");
  prometheus::Family<Gauge>& model_info =
      make.Gauges("lectern_model_info", "1 for each loaded model.");
  prometheus::Family<Gauge>& model_load =
      make.Gauges("lectern_model_load_seconds", "Loading a model, by phase.");
};

// Certificates and tokens: files that change while the server runs.
struct SecurityMetrics {
  Maker make;
  Gauge& certificate_expiry =
      make.OneGauge("lectern_tls_cert_expiry_timestamp_seconds",
                    "When the certificate in use expires; infinite without TLS.");
  ByLabel<Counter> tls_reloads{
      make.Counters("lectern_tls_reload_total",
                    "Changed certificates that were taken, and those that were refused."),
      "result", kReloads};
  ByLabel<Counter> token_reloads{
      make.Counters("lectern_auth_tokens_reload_total",
                    "Changed files of tokens that were taken, and those that were refused."),
      "result", kReloads};
};

}  // namespace lectern
