// Every metric of the server except process_*, with its name, help text, labels and buckets, by
// subject. docs/reference/metrics.md lists them; a test compares both with a live scrape.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "server/metrics/rpc_methods.h"
#include "server/metrics/series.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

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
inline constexpr Label<AdmissionReason> kReasonLabels[] = {
    {AdmissionReason::kNone, "none"},
    {AdmissionReason::kQueueRequests, "queue_requests"},
    {AdmissionReason::kQueueTokens, "queue_tokens"},
    {AdmissionReason::kQueueWait, "queue_wait"},
    {AdmissionReason::kKvExhausted, "kv_exhausted"},
    {AdmissionReason::kClientQuota, "client_quota"},
    {AdmissionReason::kDeadline, "deadline"},
    {AdmissionReason::kTooLarge, "too_large"},
    {AdmissionReason::kDraining, "draining"},
    {AdmissionReason::kInvalid, "invalid"},
    {AdmissionReason::kAuth, "auth"}};
static_assert(AreLabelsOf(kReasonLabels, AdmissionReason::kAuth));
inline constexpr Label<WorkStage> kStageLabels[] = {{WorkStage::kQueue, "queue"},
                                                    {WorkStage::kIngest, "ingest"},
                                                    {WorkStage::kPrefill, "prefill"},
                                                    {WorkStage::kDecode, "decode"}};
static_assert(AreLabelsOf(kStageLabels, WorkStage::kDecode));
inline constexpr Label<FinishLabel> kFinishLabels[] = {
    {FinishLabel::kStop, "stop"},          {FinishLabel::kLength, "length"},
    {FinishLabel::kNoAnswer, "no_answer"}, {FinishLabel::kCancelled, "cancelled"},
    {FinishLabel::kDeadline, "deadline"},  {FinishLabel::kError, "error"}};
static_assert(AreLabelsOf(kFinishLabels, FinishLabel::kError));
inline constexpr Label<PrefillSource> kSourceLabels[] = {
    {PrefillSource::kComputed, "computed"}, {PrefillSource::kDocumentCache, "document_cache"}};
static_assert(AreLabelsOf(kSourceLabels, PrefillSource::kDocumentCache));
inline constexpr Label<LookupResult> kLookupLabels[] = {{LookupResult::kHit, "hit"},
                                                        {LookupResult::kMiss, "miss"},
                                                        {LookupResult::kEvicted, "evicted"}};
static_assert(AreLabelsOf(kLookupLabels, LookupResult::kEvicted));
inline constexpr Label<CacheTier> kTierLabels[] = {{CacheTier::kHost, "host"},
                                                   {CacheTier::kDisk, "disk"}};
static_assert(AreLabelsOf(kTierLabels, CacheTier::kDisk));
inline constexpr Label<EvictionReason> kEvictionLabels[] = {{EvictionReason::kPressure, "pressure"},
                                                            {EvictionReason::kTtl, "ttl"},
                                                            {EvictionReason::kDeleted, "deleted"},
                                                            {EvictionReason::kQuota, "quota"},
                                                            {EvictionReason::kCorrupt, "corrupt"}};
static_assert(AreLabelsOf(kEvictionLabels, EvictionReason::kCorrupt));
inline constexpr Label<EnginePhase> kPhaseLabels[] = {{EnginePhase::kPrefill, "prefill"},
                                                      {EnginePhase::kDecode, "decode"},
                                                      {EnginePhase::kMixed, "mixed"}};
static_assert(AreLabelsOf(kPhaseLabels, EnginePhase::kMixed));
inline constexpr Label<ExactnessResult> kExactnessLabels[] = {
    {ExactnessResult::kExact, "exact"},
    {ExactnessResult::kWithinBound, "within_bound"},
    {ExactnessResult::kViolated, "violated"}};
static_assert(AreLabelsOf(kExactnessLabels, ExactnessResult::kViolated));
inline constexpr const char* kReloads[] = {"ok", "error"};
inline constexpr const char* kCacheFaults[] = {"missing", "unreadable", "truncated", "foreign",
                                               "version", "corrupt",    "stale",     "other"};
// The errors of a working GPU; any other error of CUDA counts as "other".
inline constexpr const char* kCudaErrors[] = {
    "cudaErrorMemoryAllocation",   "cudaErrorLaunchFailure",
    "cudaErrorIllegalAddress",     "cudaErrorECCUncorrectable",
    "cudaErrorHardwareStackError", "cudaErrorLaunchTimeout",
    "cudaErrorDevicesUnavailable", "other"};
inline constexpr const char* kPromptClasses[] = {"le_4k", "le_32k", "le_128k", "gt_128k"};

// Every list has a bucket that ends at each objective and alert threshold.
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
                           "grpc_method", kMethodLabels};
  prometheus::Family<Histogram>& seconds =
      make.Histograms("grpc_server_call_duration_seconds",
                      "Duration of an RPC from start to status, whatever its outcome.");
  prometheus::Family<Histogram>& sent_bytes =
      make.Histograms("grpc_server_call_sent_total_compressed_message_size_bytes",
                      "Bytes of the messages of an RPC to the client.");
  prometheus::Family<Histogram>& received_bytes =
      make.Histograms("grpc_server_call_rcvd_total_compressed_message_size_bytes",
                      "Bytes of the messages of an RPC from the client.");
  Gauge& streams_open = make.OneGauge("lectern_streams_open", "Open streaming RPCs.");
  Gauge& buffered = make.OneGauge("lectern_stream_buffered_chunks",
                                  "Events waiting for slow readers, over all streams.");
  Counter& slow_readers =
      make.OneCounter("lectern_slow_reader_disconnects_total",
                      "Streams ended because their reader took no message for too long.");
};

// Admission and load. The gateway's endpoint picker reads one arbitrary series of the each of its
// names, so those have no labels.
struct LoadMetrics {
  Maker make;
  const std::vector<std::string>& models;
  Gauge& running = make.OneGauge("lectern_requests_running", "Running questions and uploads.");
  Gauge& waiting = make.OneGauge("lectern_requests_waiting", "Waiting questions and uploads.");
  ByLabel<Gauge> model_running{
      make.Gauges("lectern_model_requests_running", "Running questions and uploads."), "model",
      models};
  ByLabel<Gauge> model_waiting{
      make.Gauges("lectern_model_requests_waiting", "Waiting questions and uploads."), "model",
      models};
  Gauge& queue_capacity =
      make.OneGauge("lectern_queue_capacity", "Requests that may wait before others are refused.");
  Gauge& prefill_waiting = make.OneGauge("lectern_prefill_tokens_waiting",
                                         "Document tokens of waiting uploads and questions.");
  Gauge& prefill_running =
      make.OneGauge("lectern_prefill_tokens_running",
                    "Tokens that running questions and uploads have yet to prefill.");
  Gauge& estimated_wait =
      make.OneGauge("lectern_admission_estimated_wait_seconds",
                    "Estimated wait of a question that arrives now, at the learned rates.");
  prometheus::Family<Counter>& admission =
      make.Counters("lectern_admission_total", "Requests accepted and refused, by reason.");
  Counter& admitted = admission.Add({{"decision", "accepted"}, {"reason", "none"}});
  ByLabel<Counter> rejected{admission, "reason", kReasonLabels, {{"decision", "rejected"}}};
};

// Questions: outcomes, latency, tokens.
struct QuestionMetrics {
  Maker make;
  const std::vector<std::string>& models;
  prometheus::Family<Counter>& finished_family =
      make.Counters("lectern_requests_finished_total", "Finished questions, by reason.");
  ByModel<Counter> finished{finished_family, models, "finish_reason", kFinishLabels};
  prometheus::Family<Histogram>& first_text_family = make.Histograms(
      "lectern_time_to_first_token_seconds", "Time from the request's arrival to its first text.");
  ByModel<Histogram> first_text{first_text_family, models, "prompt_class", kPromptClasses,
                                kFirstTextSeconds};
  ByLabel<Histogram> inter_token =
      Timed("lectern_inter_token_latency_seconds", "Time between two tokens of an answer.",
            kInterTokenSeconds);
  ByLabel<Histogram> seconds = Timed("lectern_request_duration_seconds",
                                     "Time of a question from arrival to end.", kRequestSeconds);
  ByLabel<Histogram> queue_seconds =
      Timed("lectern_request_queue_seconds", "Time that a question waited in the queue.",
            kRequestSeconds);
  ByLabel<Histogram> prefill_seconds = Timed(
      "lectern_request_prefill_seconds", "Prefill time of document and question.", kRequestSeconds);
  ByLabel<Histogram> decode_seconds =
      Timed("lectern_request_decode_seconds", "Time to generate the answer.", kRequestSeconds);
  ByLabel<Counter> cancelled{
      make.Counters("lectern_requests_cancelled_total", "Questions cancelled by the client."),
      "stage", kStageLabels};
  ByLabel<Counter> deadline_exceeded{
      make.Counters("lectern_deadline_exceeded_total", "Questions ended by their deadline."),
      "stage", kStageLabels};
  ByLabel<Histogram> cancel_to_free{
      make.Histograms(
          "lectern_cancel_to_free_seconds",
          "Time from a cancellation to the release of everything that the question held."),
      "stage",
      kStageLabels,
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
      Timed("lectern_question_tokens", "Tokens of a question's text.", kShortTokens);

  ByLabel<Histogram> Timed(const char* name, const char* help, const Buckets& buckets) {
    return ByLabel<Histogram>(make.Histograms(name, help), "model", models, {}, buckets);
  }
};

// The engine's steps, its KV cache, and the share that top-k attention kept.
struct EngineMetrics {
  Maker make;
  const std::vector<std::string>& models;
  Counter& steps = make.OneCounter("lectern_engine_steps_total", "Model steps.");
  ByLabel<Histogram> step_seconds{
      make.Histograms("lectern_engine_step_seconds", "Duration of a model step."),
      "phase",
      kPhaseLabels,
      {},
      kInterTokenSeconds};
  ByLabel<Counter> step_tokens{
      make.Counters("lectern_engine_tokens_total", "Tokens of all steps, prefilled and decoded."),
      "phase", std::vector<std::string>{"prefill", "decode"}};
  Histogram& batch_size =
      make.OneHistogram("lectern_engine_batch_size", "Sequences in a step.", Powers(1, 128, 2));
  Histogram& batch_tokens =
      make.OneHistogram("lectern_engine_batch_tokens", "Tokens in a step.", kShortTokens);
  Gauge& heartbeat = make.OneGauge("lectern_engine_heartbeat_timestamp_seconds",
                                   "Time when the engine last ran a step or looked for work.");
  Gauge& kv_usage =
      make.OneGauge("lectern_kv_cache_usage_ratio", "Share of the KV cache in use, 0 to 1.");
  Gauge& kv_capacity =
      make.OneGauge("lectern_kv_cache_capacity_bytes", "Memory reserved for the KV cache.");
  prometheus::Family<Gauge>& cache_config =
      make.Gauges("lectern_cache_config_info", "1; the label is the page size in tokens.");
  prometheus::Family<Counter>& prefill_tokens_family = make.Counters(
      "lectern_prefill_tokens_total", "Prompt tokens computed, and those taken from the cache.");
  ByModel<Counter> prefill_tokens{prefill_tokens_family, models, "source", kSourceLabels};
  ByLabel<Counter> cache_queries{make.Counters("lectern_prefix_cache_query_tokens_total",
                                               "Prompt tokens whose keys and values were needed."),
                                 "model", models};
  ByLabel<Counter> cache_hits{
      make.Counters("lectern_prefix_cache_hit_tokens_total",
                    "Prompt tokens whose keys and values were in the cache."),
      "model", models};
  ByLabel<Counter> kv_evictions{
      make.Counters("lectern_kv_cache_evictions_total",
                    "Evictions of a document's keys and values under one policy."),
      "model", models};
  ByLabel<Histogram> kept_mass{
      make.Histograms("lectern_attention_mass_captured_ratio",
                      "Softmax mass of the keys that top-k kept, mean over an answer."),
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
  ByLabel<Histogram> ffn_active{make.Histograms("lectern_ffn_active_ratio",
                                                "Share of the feed-forward units that an answer "
                                                "kept; the others are computed and then dropped."),
                                "model",
                                models,
                                {},
                                kRatios};
  ByLabel<Counter> cuda_errors{
      make.Counters("lectern_cuda_errors_total",
                    "GPU errors; after the first, the CPU computes all products."),
      "code", kCudaErrors};
  ByLabel<Counter> exactness{
      make.Counters("lectern_exactness_checks_total",
                    "Answers checked against the error that their request allowed."),
      "result", kExactnessLabels};
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
  Histogram& ingest_seconds =
      make.OneHistogram("lectern_document_ingest_seconds",
                        "Time from the last byte of an upload to the document.", kFirstTextSeconds);
  Histogram& reload_seconds = make.OneHistogram(
      "lectern_document_reload_seconds", "Time to load a document from disk.", kFirstTextSeconds);
  ByLabel<Gauge> resident{make.Gauges("lectern_documents_resident", "Documents in the tier."),
                          "tier", kTierLabels};
  ByLabel<Gauge> cache_bytes{
      make.Gauges("lectern_document_cache_bytes", "Keys and values of documents."), "tier",
      kTierLabels};
  ByLabel<Counter> lookups{
      make.Counters("lectern_document_lookups_total", "Look-ups of documents by id."), "result",
      kLookupLabels};
  prometheus::Family<Counter>& evictions_family =
      make.Counters("lectern_document_evictions_total", "Documents that left a tier, by reason.");
  std::array<ByLabel<Counter>, 2> evictions{
      ByLabel<Counter>(evictions_family, "reason", kEvictionLabels,
                       {{"tier", kTierLabels[0].name}}),
      ByLabel<Counter>(evictions_family, "reason", kEvictionLabels,
                       {{"tier", kTierLabels[1].name}})};
  Counter& disk_errors =
      make.OneCounter("lectern_cache_disk_errors_total",
                      "Failures to write or read the cache folder; documents stay in memory.");
  ByLabel<Counter> cache_rejected{
      make.Counters("lectern_document_cache_rejected_total",
                    "Invalid files removed from the cache folder, by reason."),
      "reason", kCacheFaults};
  Gauge& cache_available =
      make.OneGauge("lectern_document_cache_available", "1 while documents are also kept on disk.");
};

// The build, the models, and the state of the server.
struct LifecycleMetrics {
  Maker make;
  Gauge& ready = make.OneGauge("lectern_ready", "1 while the server takes calls.");
  Gauge& draining = make.OneGauge("lectern_draining", "1 after the signal to stop.");
  Gauge& memory_limit =
      make.OneGauge("lectern_memory_limit_bytes",
                    "Memory the process may use: its control group's limit, or the machine's.");
  prometheus::Family<Gauge>& build_info = make.Gauges(
      "lectern_build_info",
      "1; the labels are the build's version, instruction set, gRPC version and compiler.");
  prometheus::Family<Gauge>& model_info =
      make.Gauges("lectern_model_info", "1 for each loaded model.");
  prometheus::Family<Gauge>& model_load =
      make.Gauges("lectern_model_load_seconds", "Time to load a model, by phase.");
};

// Certificates and tokens, whose files may change while the server runs.
struct SecurityMetrics {
  Maker make;
  Gauge& certificate_expiry =
      make.OneGauge("lectern_tls_cert_expiry_timestamp_seconds",
                    "Expiry time of the certificate in use; infinite without TLS.");
  ByLabel<Counter> tls_reloads{
      make.Counters("lectern_tls_reload_total", "Reloads of changed certificates, by result."),
      "result", kReloads};
  ByLabel<Counter> token_reloads{make.Counters("lectern_auth_tokens_reload_total",
                                               "Reloads of the changed token file, by result."),
                                 "result", kReloads};
};

}  // namespace lectern
