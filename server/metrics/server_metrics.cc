#include "server/metrics/server_metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

#include "server/metrics/metric_tables.h"
#include "server/metrics/process_metrics.h"

namespace lectern {
namespace {

template <typename E>
size_t Index(E e) {
  return static_cast<size_t>(e);
}

const char* PromptClass(uint64_t tokens) {
  return kPromptClasses[tokens <= 4096 ? 0 : tokens <= 32768 ? 1 : tokens <= 131072 ? 2 : 3];
}

std::vector<std::string> WithOther(std::vector<std::string> names) {
  names.push_back("other");
  return names;
}

// Returns `name` if it is one of `names`, so that clients cannot create series.
template <typename Names>
std::string Known(const Names& names, std::string_view name, const char* otherwise) {
  const auto* found = std::find(std::begin(names), std::end(names), name);
  return found == std::end(names) ? otherwise : *found;
}

}  // namespace

struct ServerMetrics::Metrics {
  explicit Metrics(const std::vector<std::string>& model_names) : models(WithOther(model_names)) {}

  prometheus::Registry registry;
  const std::vector<std::string> models;
  CallMetrics calls{Maker(&registry)};
  LoadMetrics load{Maker(&registry), models};
  QuestionMetrics questions{Maker(&registry), models};
  EngineMetrics engine{Maker(&registry), models};
  DocumentMetrics documents{Maker(&registry), models};
  LifecycleMetrics lifecycle{Maker(&registry)};
  SecurityMetrics security{Maker(&registry)};
};

ServerMetrics::ServerMetrics(const std::vector<std::string>& model_names)
    : metrics_(std::make_unique<Metrics>(model_names)) {
  SetCertificateExpiry(absl::InfiniteFuture());
}
ServerMetrics::~ServerMetrics() = default;

std::string ServerMetrics::Render() const {
  std::vector<prometheus::MetricFamily> families = metrics_->registry.Collect();
  for (prometheus::MetricFamily& family : ProcessMetrics().Collect()) {
    families.push_back(std::move(family));
  }
  // A family without series would be a name that nothing records.
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

void ServerMetrics::CallStarted(RpcMethod method) {
  metrics_->calls.started[LabelOf(kMethodLabels, method)].Increment();
}

void ServerMetrics::CallFinished(RpcMethod method, std::string_view status, absl::Duration duration,
                                 uint64_t sent, uint64_t received) {
  CallMetrics& calls = metrics_->calls;
  const prometheus::Labels labels{{"grpc_method", LabelOf(kMethodLabels, method)},
                                  {"grpc_status", Known(kStatuses, status, "UNKNOWN")}};
  // Add() returns the series that is already there.
  calls.seconds.Add(labels, kCallSeconds).Observe(absl::ToDoubleSeconds(duration));
  calls.sent_bytes.Add(labels, kCallBytes).Observe(static_cast<double>(sent));
  calls.received_bytes.Add(labels, kCallBytes).Observe(static_cast<double>(received));
}

void ServerMetrics::StreamOpened() { metrics_->calls.streams_open.Increment(); }
void ServerMetrics::StreamClosed() { metrics_->calls.streams_open.Decrement(); }
void ServerMetrics::StreamBuffered(int64_t change) {
  metrics_->calls.buffered.Increment(static_cast<double>(change));
}
void ServerMetrics::SlowReaderDisconnected() { metrics_->calls.slow_readers.Increment(); }

void ServerMetrics::Admitted() { metrics_->load.admitted.Increment(); }
void ServerMetrics::Rejected(AdmissionReason reason) {
  metrics_->load.rejected[LabelOf(kReasonLabels, reason)].Increment();
}
void ServerMetrics::SetLoad(uint32_t running, uint32_t waiting) {
  metrics_->load.running.Set(running);
  metrics_->load.waiting.Set(waiting);
}
void ServerMetrics::SetModelLoad(const std::string& model, uint32_t running, uint32_t waiting) {
  metrics_->load.model_running[model].Set(running);
  metrics_->load.model_waiting[model].Set(waiting);
}
void ServerMetrics::SetQueueCapacity(uint32_t requests) {
  metrics_->load.queue_capacity.Set(requests);
}
void ServerMetrics::SetPrefillTokens(uint64_t waiting, uint64_t running) {
  metrics_->load.prefill_waiting.Set(static_cast<double>(waiting));
  metrics_->load.prefill_running.Set(static_cast<double>(running));
}
void ServerMetrics::SetEstimatedWait(absl::Duration wait) {
  metrics_->load.estimated_wait.Set(absl::ToDoubleSeconds(wait));
}

void ServerMetrics::RequestFinished(const RequestRecord& r) {
  QuestionMetrics& m = metrics_->questions;
  m.finished[r.model][LabelOf(kFinishLabels, r.finish)].Increment();
  m.seconds[r.model].Observe(absl::ToDoubleSeconds(r.total));
  m.queue_seconds[r.model].Observe(absl::ToDoubleSeconds(r.queue));
  m.prefill_seconds[r.model].Observe(absl::ToDoubleSeconds(r.prefill));
  m.decode_seconds[r.model].Observe(absl::ToDoubleSeconds(r.decode));
  m.prompt_tokens[r.model].Increment(static_cast<double>(r.prompt_tokens));
  m.generation_tokens[r.model].Increment(static_cast<double>(r.generated_tokens));
  m.request_prompt_tokens[r.model].Observe(static_cast<double>(r.prompt_tokens));
  m.request_generation_tokens[r.model].Observe(static_cast<double>(r.generated_tokens));
  m.question_tokens[r.model].Observe(static_cast<double>(r.question_tokens));
}

void ServerMetrics::FirstText(const std::string& model, uint64_t prompt_tokens,
                              absl::Duration since_arrival) {
  metrics_->questions.first_text[model][PromptClass(prompt_tokens)].Observe(
      absl::ToDoubleSeconds(since_arrival));
}
void ServerMetrics::InterToken(const std::string& model, absl::Duration gap) {
  metrics_->questions.inter_token[model].Observe(absl::ToDoubleSeconds(gap));
}
void ServerMetrics::Cancelled(WorkStage stage, absl::Duration cancel_to_free) {
  metrics_->questions.cancelled[LabelOf(kStageLabels, stage)].Increment();
  metrics_->questions.cancel_to_free[LabelOf(kStageLabels, stage)].Observe(
      absl::ToDoubleSeconds(cancel_to_free));
}
void ServerMetrics::DeadlineExceeded(WorkStage stage) {
  metrics_->questions.deadline_exceeded[LabelOf(kStageLabels, stage)].Increment();
}

void ServerMetrics::Step(const StepRecord& step) {
  EngineMetrics& m = metrics_->engine;
  const EnginePhase phase = step.decode_tokens == 0    ? EnginePhase::kPrefill
                            : step.prefill_tokens == 0 ? EnginePhase::kDecode
                                                       : EnginePhase::kMixed;
  m.steps.Increment();
  m.step_seconds[LabelOf(kPhaseLabels, phase)].Observe(absl::ToDoubleSeconds(step.duration));
  m.step_tokens["prefill"].Increment(static_cast<double>(step.prefill_tokens));
  m.step_tokens["decode"].Increment(static_cast<double>(step.decode_tokens));
  m.batch_tokens.Observe(static_cast<double>(step.prefill_tokens + step.decode_tokens));
  m.batch_size.Observe(static_cast<double>(step.sequences));
}
void ServerMetrics::PrefillTokens(const std::string& model, PrefillSource source, uint64_t tokens) {
  EngineMetrics& m = metrics_->engine;
  const auto count = static_cast<double>(tokens);
  m.prefill_tokens[model][LabelOf(kSourceLabels, source)].Increment(count);
  m.cache_queries[model].Increment(count);
  if (source == PrefillSource::kDocumentCache) m.cache_hits[model].Increment(count);
}
void ServerMetrics::SetHeartbeat(absl::Time time) {
  metrics_->engine.heartbeat.Set(absl::ToDoubleSeconds(time - absl::UnixEpoch()));
}
void ServerMetrics::SetKvCache(uint64_t used_bytes, uint64_t capacity_bytes, uint64_t page_tokens) {
  EngineMetrics& m = metrics_->engine;
  m.kv_usage.Set(capacity_bytes == 0
                     ? 0
                     : static_cast<double>(used_bytes) / static_cast<double>(capacity_bytes));
  m.kv_capacity.Set(static_cast<double>(capacity_bytes));
  if (page_tokens > 0) m.cache_config.Add({{"block_size", std::to_string(page_tokens)}}).Set(1);
}
void ServerMetrics::AttentionSampled(const std::string& model, double kept_mass,
                                     double selected_ratio) {
  metrics_->engine.kept_mass[model].Observe(kept_mass);
  metrics_->engine.selected[model].Observe(selected_ratio);
}
void ServerMetrics::FfnSampled(const std::string& model, double active_ratio) {
  metrics_->engine.ffn_active[model].Observe(active_ratio);
}
void ServerMetrics::CudaError(std::string_view code) {
  metrics_->engine.cuda_errors[code].Increment();
}
void ServerMetrics::ExactnessChecked(ExactnessResult result) {
  metrics_->engine.exactness[LabelOf(kExactnessLabels, result)].Increment();
}
void ServerMetrics::KvCacheEvicted(const std::string& model, uint64_t policies) {
  metrics_->engine.kv_evictions[model].Increment(static_cast<double>(policies));
}

void ServerMetrics::DocumentRead(const std::string& model, uint64_t bytes, uint64_t tokens,
                                 absl::Duration duration) {
  metrics_->documents.bytes.Observe(static_cast<double>(bytes));
  metrics_->documents.tokens[model].Observe(static_cast<double>(tokens));
  metrics_->documents.ingest_seconds.Observe(absl::ToDoubleSeconds(duration));
}
void ServerMetrics::SetDocuments(uint64_t resident, uint64_t cache_bytes, CacheTier tier) {
  metrics_->documents.resident[LabelOf(kTierLabels, tier)].Set(static_cast<double>(resident));
  metrics_->documents.cache_bytes[LabelOf(kTierLabels, tier)].Set(static_cast<double>(cache_bytes));
}
void ServerMetrics::DocumentLookup(LookupResult result) {
  metrics_->documents.lookups[LabelOf(kLookupLabels, result)].Increment();
}
void ServerMetrics::DocumentEvicted(EvictionReason reason, CacheTier tier) {
  metrics_->documents.evictions[Index(tier)][LabelOf(kEvictionLabels, reason)].Increment();
}
void ServerMetrics::DocumentReloaded(absl::Duration duration) {
  metrics_->documents.reload_seconds.Observe(absl::ToDoubleSeconds(duration));
}
void ServerMetrics::CacheDiskError() { metrics_->documents.disk_errors.Increment(); }
void ServerMetrics::CacheFileRejected(std::string_view reason) {
  metrics_->documents.cache_rejected[reason].Increment();
}
void ServerMetrics::SetCacheAvailable(bool available) {
  metrics_->documents.cache_available.Set(available ? 1 : 0);
}

void ServerMetrics::SetBuild(const BuildRecord& build) {
  metrics_->lifecycle.build_info
      .Add({{"version", build.version},
            {"isa", build.isa},
            {"grpc", build.grpc_version},
            {"compiler", build.compiler}})
      .Set(1);
}
void ServerMetrics::SetModel(const std::string& model, const std::string& format,
                             const std::string& quantization, const std::string& digest) {
  metrics_->lifecycle.model_info
      .Add({{"model", model},
            {"format", format},
            {"quantization", quantization},
            {"digest", digest}})
      .Set(1);
}
void ServerMetrics::SetModelLoadTime(const std::string& model, std::string_view phase,
                                     absl::Duration duration) {
  metrics_->lifecycle.model_load.Add({{"model", model}, {"phase", std::string(phase)}})
      .Set(absl::ToDoubleSeconds(duration));
}
void ServerMetrics::SetMemoryLimit(uint64_t bytes) {
  metrics_->lifecycle.memory_limit.Set(static_cast<double>(bytes));
}
void ServerMetrics::SetReady(bool ready) { metrics_->lifecycle.ready.Set(ready ? 1 : 0); }
void ServerMetrics::SetDraining(bool draining) {
  metrics_->lifecycle.draining.Set(draining ? 1 : 0);
}

void ServerMetrics::SetCertificateExpiry(absl::Time time) {
  metrics_->security.certificate_expiry.Set(absl::ToDoubleSeconds(time - absl::UnixEpoch()));
}
void ServerMetrics::TlsReloaded(bool taken) {
  metrics_->security.tls_reloads[kReloads[taken ? 0 : 1]].Increment();
}
void ServerMetrics::TokensReloaded(bool taken) {
  metrics_->security.token_reloads[kReloads[taken ? 0 : 1]].Increment();
}

}  // namespace lectern
