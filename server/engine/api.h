// The vocabulary of the engine: requests, results, and the interfaces of running work. Every folder
// of the engine may include it. It knows neither proto nor gRPC.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/engine/attention_choice.h"
#include "server/model/attention_policy.h"

namespace lectern {

enum class ReadingMode { kAuto, kWhole, kChunks };

// Interactive requests, which a person waits for, run before bulk requests.
enum class Priority { kInteractive, kBulk };

struct DocumentInfo {
  std::string id;
  std::string title;
  std::string model;
  uint64_t bytes = 0;
  uint64_t tokens = 0;
  uint32_t chunks = 1;
  uint64_t device_bytes = 0;
  std::string sha256;
  absl::Time create_time;
  absl::Time last_use_time;
  absl::Time expire_time = absl::InfiniteFuture();
  bool pinned = false;
  ReadingMode reading = ReadingMode::kWhole;
  std::vector<AttentionPolicy> read_under;
};

struct UploadOptions {
  std::string title;
  std::string model;
  uint64_t expected_bytes = 0;
  std::string expected_sha256;
  std::optional<absl::Duration> ttl;
  bool pinned = false;
  ReadingMode reading = ReadingMode::kAuto;
  AttentionChoice attention;
  Priority priority = Priority::kBulk;
  std::string tenant;      // whose share of the engine is used; never empty if it came by RPC
  std::string owner;       // owner of the document: the tenant that the client named, or empty
  std::string request_id;  // for log lines
  absl::Time deadline = absl::InfiniteFuture();
};

enum class UploadStage { kReceiving, kQueued, kTokenizing, kPrefill };

struct SamplingOptions {
  double temperature = 0;  // 0 = greedy
  double top_p = 1;
  uint64_t seed = 0;
};

struct AskOptions {
  std::string document_id;  // or
  std::optional<std::string> inline_text;
  std::string question;
  std::string model;
  AttentionChoice attention;
  ReadingMode reading = ReadingMode::kAuto;
  SamplingOptions sampling;
  uint32_t max_new_tokens = 0;  // 0 = default
  std::vector<std::string> stop;
  uint32_t max_evidence_spans = 3;
  bool disable_reuse = false;
  std::optional<double> no_answer_threshold;  // unset: the model's
  Priority priority = Priority::kInteractive;
  std::string tenant;
  std::string owner;  // owner of the documents that may be asked about
  std::string request_id;
  absl::Time deadline = absl::InfiniteFuture();
};

enum class AskStage { kTokenizing, kPrefillDocument, kPrefillQuestion, kSearch };
enum class FinishReason { kStop, kLength, kStopString, kNoAnswer };

struct EvidenceSpan {
  uint64_t begin_byte = 0;
  uint64_t end_byte = 0;
  std::string text;
  double attention = 0;
  uint32_t chunk = 0;
};

struct Usage {
  uint64_t document_tokens = 0;
  uint64_t question_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t tokens_computed = 0;
  uint64_t tokens_reused = 0;
};

struct Exactness {
  bool exact = false;
  double kept_mass_mean = 1;
  double kept_mass_min = 1;
  AttentionPolicy policy;
  bool fell_back_to_exact = false;
  std::string numerics;
  std::string kv_cache;
};

struct Timings {
  absl::Duration queue;
  absl::Duration prefill;
  absl::Duration time_to_first_text;
  absl::Duration decode;
  absl::Duration total;
};

struct Answer {
  FinishReason finish_reason = FinishReason::kStop;
  std::string text;
  std::string stop_string;
  std::string document_id;
  std::string model;
  Usage usage;
  std::vector<EvidenceSpan> evidence;
  Exactness exactness;
  Timings timings;
  double considered_ratio = 1;
  double evidence_strength = 0;
  double question_coverage = 1;
  bool no_evidence = false;
  // For a span reader: the score of "no answer" minus the best span's.
  std::optional<double> null_score_difference;
  ReadingMode reading = ReadingMode::kWhole;

  // The tokens computed, and the tokens generated, per second; 0 if that took no time.
  double prefill_tokens_per_second() const { return Rate(usage.tokens_computed, timings.prefill); }
  double decode_tokens_per_second() const { return Rate(usage.generated_tokens, timings.decode); }

 private:
  static double Rate(uint64_t tokens, absl::Duration duration) {
    const double seconds = absl::ToDoubleSeconds(duration);
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

// Limits on the jobs that wait and run.
struct QueueLimits {
  uint32_t waiting = 64;              // requests, uploads and questions together
  uint64_t waiting_tokens = 1 << 20;  // tokens waiting for prefill
  absl::Duration wait;                // estimated wait; bulk jobs: a quarter; 0: no limit
  uint32_t running_questions = 16;    // answered in one batch
  uint32_t running_uploads = 2;       // read at the same time
};

// Static limits of an engine. Each one appears in the error that enforces it.
struct EngineLimits {
  uint64_t max_document_bytes = uint64_t{64} << 20;
  uint64_t max_question_bytes = 16 << 10;
  uint32_t max_new_tokens = 1024;
  uint32_t default_max_new_tokens = 128;
  uint32_t max_evidence_spans = 32;
  uint32_t max_stop_strings = 8;
  uint32_t max_stop_bytes = 64;
  uint32_t max_title_bytes = 1024;
  QueueLimits queue;
};

// Limits on the documents of one owner; 0 = no limit.
struct TenantLimits {
  uint64_t bytes = 0;  // keys and values
  uint64_t documents = 0;
};

struct EngineStatus {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint64_t documents = 0;
  uint64_t kv_bytes_used = 0;
  uint64_t kv_bytes_capacity = 0;
};

// Receives the events of one question. Called by the engine's worker, one call at a time; must not
// block. The last call is exactly one of OnAnswer and OnError. The engine keeps the sink alive
// until then.
class AskSink {
 public:
  virtual ~AskSink() = default;
  // `position` jobs run or wait ahead of this one. At the rates learned so far their work takes
  // `estimated_wait`; nullopt while no rate is known.
  virtual void OnQueued(uint32_t position, std::optional<absl::Duration> estimated_wait) = 0;
  virtual void OnProgress(AskStage stage, uint64_t done, uint64_t total) = 0;
  virtual void OnText(std::string_view text, uint32_t tokens) = 0;
  virtual void OnAnswer(const Answer& answer) = 0;
  virtual void OnError(const absl::Status& status) = 0;
};

// Receives the events of one upload, under the rules of AskSink.
class UploadSink {
 public:
  virtual ~UploadSink() = default;
  virtual void OnProgress(UploadStage stage, uint64_t done, uint64_t total) = 0;
  virtual void OnDocument(const DocumentInfo& document) = 0;
  virtual void OnError(const absl::Status& status) = 0;
};

// A running job. Thread-safe. Dropping the handle does not cancel.
class Job {
 public:
  virtual ~Job() = default;
  // Called when the client has gone or asks to stop: the job ends within one model step, frees
  // everything and reports CANCELLED to its sink. May be called any number of times, also after the
  // end.
  virtual void Cancel() = 0;
};

// A document that is still arriving. Used by one thread at a time. Destroying it without Finish()
// discards the bytes.
class Upload {
 public:
  virtual ~Upload() = default;
  // Checks size and UTF-8 as the bytes arrive. After an error the upload is over.
  virtual absl::Status Append(std::string_view bytes) = 0;
  virtual uint64_t bytes_received() const = 0;
  // Ends the bytes: checks size and digest, then queues the document to be read. A document that is
  // already stored is reported at once. If an error is returned, the sink is not called.
  virtual absl::StatusOr<std::shared_ptr<Job>> Finish(std::shared_ptr<UploadSink> sink) = 0;
};

// A text whose tokens are counted: a stored document or `text`, exactly one of them.
struct CountOptions {
  std::string document_id;
  std::optional<std::string> text;
  std::string model;  // empty: the document's, or the default one for a text
  std::string owner;  // AskOptions::owner
  absl::Time deadline = absl::InfiniteFuture();
};

// How a document was read, or how a text would be read under ReadingMode::kAuto.
struct TokenCount {
  std::string model;
  uint64_t tokens = 0;  // of the text alone
  ReadingMode reading = ReadingMode::kWhole;
  uint32_t chunks = 1;
  uint64_t chunk_tokens = 0;  // kAuto reads up to this many tokens whole
  uint64_t context_length = 0;
};

using CountDone = std::function<void(const absl::StatusOr<TokenCount>&)>;

struct DocumentPage {
  std::vector<DocumentInfo> documents;  // by id
  std::string next_page_token;
  uint64_t total = 0;
};

}  // namespace lectern
