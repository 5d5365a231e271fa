// What goes into the engine and comes out of it. Plain data: no proto, no gRPC.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/model/attention_policy.h"

namespace lectern {

enum class Reading { kAuto, kWhole, kChunks };

// Who goes first when both wait: somebody sits before an interactive request.
enum class Priority { kInteractive, kBulk };

// What a request says about attention; what is unset comes from the model's default policy.
struct AttentionChoice {
  bool exact = false;
  std::optional<int64_t> top_k;
  std::optional<AttentionPolicy::Tail> tail;
  std::vector<int64_t> layer_top_k;
  std::optional<int64_t> ffn_top_k;
  std::optional<int64_t> page_budget;
  std::optional<int64_t> dense_up_to;
  std::optional<double> max_error;
  bool fall_back_to_exact = false;
};

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
  Reading reading = Reading::kWhole;
  std::vector<AttentionPolicy> read_under;
};

struct UploadOptions {
  std::string title;
  std::string model;
  uint64_t expected_bytes = 0;
  std::string expected_sha256;
  std::optional<absl::Duration> ttl;
  bool pinned = false;
  Reading reading = Reading::kAuto;
  AttentionChoice attention;
  Priority priority = Priority::kBulk;
  std::string tenant;      // whose share of the engine it uses; never empty when it came by RPC
  std::string owner;       // whose document it is: the tenant the client named, or empty
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
  Reading reading = Reading::kAuto;
  SamplingOptions sampling;
  uint32_t max_new_tokens = 0;  // 0 = default
  std::vector<std::string> stop;
  uint32_t max_evidence_spans = 3;
  bool disable_reuse = false;
  Priority priority = Priority::kInteractive;
  std::string tenant;
  std::string owner;  // whose documents it may ask
  std::string request_id;
  absl::Time deadline = absl::InfiniteFuture();
};

enum class AskStage { kTokenizing, kPrefillDocument, kPrefillQuestion, kSearch };
enum class FinishReason { kStop, kLength, kStopString };

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
  Reading reading = Reading::kWhole;
};

// Static limits of an engine; every one appears in the error that enforces it.
struct EngineLimits {
  uint64_t max_document_bytes = uint64_t{64} << 20;
  uint64_t max_question_bytes = 16 << 10;
  uint32_t max_new_tokens = 1024;
  uint32_t default_max_new_tokens = 128;
  uint32_t max_top_k = 65536;
  uint32_t max_evidence_spans = 32;
  uint32_t max_stop_strings = 8;
  uint32_t max_stop_bytes = 64;
  uint32_t max_title_bytes = 1024;
  uint32_t queue_capacity = 64;     // requests that wait, uploads and questions together
  uint64_t queue_tokens = 1 << 20;  // tokens that wait to be read
  absl::Duration queue_wait;        // at the learned rates, for bulk a quarter; 0: no limit
  uint32_t running_questions = 16;  // answered in one batch
  uint32_t running_uploads = 2;     // read side by side
};

// What the documents of one owner may take; 0 = no limit of its own.
struct TenantLimits {
  uint64_t bytes = 0;  // of keys and values
  uint64_t documents = 0;
};

struct EngineStatus {
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint64_t documents = 0;
  uint64_t kv_bytes_used = 0;
  uint64_t kv_bytes_capacity = 0;
};

}  // namespace lectern
