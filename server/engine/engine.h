// The engine: documents, pages, and one worker thread that runs uploads and questions together.
// Knows neither gRPC nor proto nor LibTorch.
//
// Every method may be called from any thread and none waits for a model step. StartUpload() and
// Ask() return at once; the events of the job that they start come through its sink.
//
// Errors are absl::Status with ErrorDetails (base/error_details.h); the reasons are those of
// docs/reference/errors.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "server/engine/api.h"
#include "server/model/model.h"

namespace lectern {

class ServerMetrics;

struct EngineOptions {
  EngineLimits limits;
  uint64_t kv_bytes = uint64_t{1} << 30;              // budget of the page pool
  bool kv_populate = false;                           // take that memory at startup
  uint64_t upload_bytes = uint64_t{256} << 20;        // budget of texts that are still arriving
  int prefill_slice_tokens = 256;                     // prefill tokens of one step, at most
  absl::Duration default_ttl = absl::ZeroDuration();  // 0 = documents stay until evicted
  std::string cache_dir;                              // also keeps documents on disk; empty = none
  uint64_t cache_bytes = uint64_t{16} << 30;          // budget of the files in cache_dir
  TenantLimits tenant_limits;                         // for the documents of each owner
  double no_evidence_threshold = 0.46;                // see QuestionCoverage::IsDoubtful()
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Starts the worker. The first model is the default. Models are shared: the engine holds
  // references.
  static std::unique_ptr<Engine> Create(const EngineOptions& options,
                                        std::vector<std::shared_ptr<const Model>> models,
                                        const Clock* clock, ServerMetrics* metrics);

  // Refuses bad fields, unknown models, and documents that can never be held by their
  // `expected_bytes` (CACHE_FULL, CLIENT_QUOTA).
  virtual absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadOptions& options) = 0;
  // Finds only documents of `owner` (AskOptions::owner); those of others are NOT_FOUND.
  virtual absl::StatusOr<DocumentInfo> GetDocument(const std::string& id,
                                                   const std::string& owner) const = 0;
  virtual absl::StatusOr<DocumentPage> ListDocuments(uint32_t page_size,
                                                     const std::string& page_token,
                                                     const std::string& model,
                                                     const std::string& owner) const = 0;
  // Returns the bytes of memory that are free when it returns.
  virtual absl::StatusOr<uint64_t> DeleteDocument(const std::string& id,
                                                  const std::string& owner) = 0;

  // Errors of admission are returned, and the sink is not called: bad fields, all of them at once;
  // an unknown document or model; a full queue.
  virtual absl::StatusOr<std::shared_ptr<Job>> Ask(AskOptions options,
                                                   std::shared_ptr<AskSink> sink) = 0;

  // Counts tokens without storing or computing anything. `done` is called once, possibly before
  // this returns; it is not called if an error is returned: bad fields, an unknown document or
  // model, or too many texts waiting (UPLOAD_BUFFER).
  virtual absl::StatusOr<std::shared_ptr<Job>> CountTokens(CountOptions options,
                                                           CountDone done) = 0;

  virtual const std::vector<std::shared_ptr<const Model>>& models() const = 0;
  virtual const EngineLimits& limits() const = 0;
  virtual EngineStatus status() const = 0;

  // The time of the worker's last step or idle tick. Never blocks.
  virtual absl::Time heartbeat() const = 0;

  // From now on StartUpload(), Finish() and Ask() are refused with UNAVAILABLE (DRAINING).
  virtual void StopAccepting() = 0;
  // Waits until no job runs or waits; false if `deadline` passes first.
  virtual bool WaitUntilIdle(absl::Time deadline) = 0;
  // Ends all remaining jobs with UNAVAILABLE (DRAINING) and joins the worker. The destructor calls
  // it too.
  virtual void Stop() = 0;
};

}  // namespace lectern
