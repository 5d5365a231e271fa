// The server's counters and timers. Their names, help texts, labels and buckets are declared in
// metric_tables.h; docs/reference/metrics.md lists them.
//
// Rules: prefix lectern_ (grpc_ for gRPC's own names of gRFC A66, process_ for the process), base
// units, _total on counters, no label whose values a client can invent. All series are registered
// at construction, so that recording cannot fail and a scrape always shows every name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "server/metrics/rpc_methods.h"

namespace lectern {

enum class AdmissionReason {
  kNone,
  kQueueRequests,
  kQueueTokens,
  kQueueWait,
  kKvExhausted,
  kClientQuota,
  kDeadline,
  kTooLarge,
  kDraining,
  kInvalid,
  kAuth
};
enum class WorkStage { kQueue, kIngest, kPrefill, kDecode };
enum class FinishLabel { kStop, kLength, kNoAnswer, kCancelled, kDeadline, kError };
enum class PrefillSource { kComputed, kDocumentCache };
enum class LookupResult { kHit, kMiss, kEvicted };
enum class CacheTier { kHost, kDisk };
// kCorrupt: a file that was damaged or belongs to another model.
enum class EvictionReason { kPressure, kTtl, kDeleted, kQuota, kCorrupt };
enum class EnginePhase { kPrefill, kDecode, kMixed };
enum class ExactnessResult { kExact, kWithinBound, kViolated };

// A finished question.
struct RequestRecord {
  std::string model;
  FinishLabel finish = FinishLabel::kStop;
  uint64_t prompt_tokens = 0;
  uint64_t question_tokens = 0;
  uint64_t generated_tokens = 0;
  absl::Duration queue;
  absl::Duration prefill;
  absl::Duration decode;
  absl::Duration total;
};

// One model step: a batch of slices of prompts and of single tokens of answers.
struct StepRecord {
  absl::Duration duration;
  uint64_t prefill_tokens = 0;
  uint64_t decode_tokens = 0;
  uint64_t sequences = 0;
};

// Facts that do not change while the process runs.
struct BuildRecord {
  std::string version;
  std::string isa;
  std::string grpc_version;
  std::string compiler;
};

// Thread-safe; nothing blocks for longer than a short lock. Model names that were not given to the
// constructor are counted under "other".
class ServerMetrics {
 public:
  explicit ServerMetrics(const std::vector<std::string>& model_names);
  ~ServerMetrics();
  ServerMetrics(const ServerMetrics&) = delete;
  ServerMetrics& operator=(const ServerMetrics&) = delete;

  // Returns all metrics in the Prometheus text format, version 0.0.4.
  std::string Render() const;

  // gRPC calls.
  void CallStarted(RpcMethod method);
  // `sent` and `received` are bytes of messages.
  void CallFinished(RpcMethod method, std::string_view status, absl::Duration duration,
                    uint64_t sent = 0, uint64_t received = 0);
  void StreamOpened();
  void StreamClosed();
  void StreamBuffered(int64_t change);
  void SlowReaderDisconnected();

  // Admission and load.
  void Admitted();
  void Rejected(AdmissionReason reason);
  void SetLoad(uint32_t running, uint32_t waiting);
  void SetModelLoad(const std::string& model, uint32_t running, uint32_t waiting);
  void SetQueueCapacity(uint32_t requests);
  void SetPrefillTokens(uint64_t waiting, uint64_t running);
  // The estimated wait of a question that arrives now.
  void SetEstimatedWait(absl::Duration wait);

  // Questions.
  void RequestFinished(const RequestRecord& record);
  void FirstText(const std::string& model, uint64_t prompt_tokens, absl::Duration since_arrival);
  void InterToken(const std::string& model, absl::Duration gap);
  void Cancelled(WorkStage stage, absl::Duration cancel_to_free);
  void DeadlineExceeded(WorkStage stage);

  // Engine.
  void Step(const StepRecord& step);
  void PrefillTokens(const std::string& model, PrefillSource source, uint64_t tokens);
  void SetHeartbeat(absl::Time time);
  void SetKvCache(uint64_t used_bytes, uint64_t capacity_bytes, uint64_t page_tokens);
  void AttentionSampled(const std::string& model, double kept_mass, double selected_ratio);
  void FfnSampled(const std::string& model, double active_ratio);
  // Counts a GPU failure by the name of its CUDA error.
  void CudaError(std::string_view code);
  // Counts an answer that was checked against the error its request allowed.
  void ExactnessChecked(ExactnessResult result);
  // Counts the eviction of a document's keys and values under `policies` policies.
  void KvCacheEvicted(const std::string& model, uint64_t policies);

  // Documents.
  void DocumentRead(const std::string& model, uint64_t bytes, uint64_t tokens,
                    absl::Duration duration);
  void SetDocuments(uint64_t resident, uint64_t cache_bytes, CacheTier tier = CacheTier::kHost);
  void DocumentLookup(LookupResult result);
  void DocumentEvicted(EvictionReason reason, CacheTier tier = CacheTier::kHost);
  // Records the time to load a document from disk.
  void DocumentReloaded(absl::Duration duration);
  void CacheDiskError();
  // Counts a removed file by the name of its CacheFileError
  // (server/engine/documents/disk/cache_file.h).
  void CacheFileRejected(std::string_view reason);
  void SetCacheAvailable(bool available);

  // Lifecycle.
  void SetBuild(const BuildRecord& build);
  void SetModel(const std::string& model, const std::string& format,
                const std::string& quantization, const std::string& digest);
  void SetModelLoadTime(const std::string& model, std::string_view phase, absl::Duration duration);
  void SetMemoryLimit(uint64_t bytes);
  void SetReady(bool ready);
  void SetDraining(bool draining);

  // Certificates and tokens.
  void SetCertificateExpiry(absl::Time time);
  // Counts a changed file, and whether its new contents are in force.
  void TlsReloaded(bool taken);
  void TokensReloaded(bool taken);

 private:
  struct Metrics;
  std::unique_ptr<Metrics> metrics_;
};

}  // namespace lectern
