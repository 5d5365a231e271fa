// The server's flags. --help prints this table; the README's is checked against it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/model/attention_policy.h"
#include "server/model/loading/model_loader.h"

namespace lectern {

struct Options {
  std::string listen = "127.0.0.1:8001";
  std::string metrics_listen = "127.0.0.1:8002";
  std::vector<std::pair<std::string, std::string>> models;  // name, path
  ModelLoadOptions::Numerics numerics = ModelLoadOptions::Numerics::kAuto;
  enum class Device { kCpu, kCuda };
  Device device = Device::kCpu;  // of int8 products of many rows
  int threads = 0;               // 0: one for each CPU
  AttentionPolicy policy = ModelLoadOptions().default_policy;
  uint64_t kv_bytes = uint64_t{1} << 30;
  bool kv_populate = false;
  std::string cache_dir;
  uint64_t cache_bytes = uint64_t{16} << 30;
  uint64_t tenant_bytes = 0;
  uint64_t tenant_documents = 0;
  uint64_t upload_bytes = uint64_t{256} << 20;
  uint64_t max_document_bytes = uint64_t{64} << 20;
  uint32_t max_new_tokens = 1024;
  uint32_t default_max_new_tokens = 128;
  uint32_t queue_capacity = 64;
  uint64_t queue_tokens = 1 << 20;
  absl::Duration queue_wait = absl::ZeroDuration();  // 0: no limit
  uint32_t max_running = 16;
  uint32_t max_uploads = 2;
  int prefill_slice_tokens = 256;
  absl::Duration default_ttl = absl::ZeroDuration();
  double no_evidence_threshold = 0.6;
  absl::Duration drain_timeout = absl::Seconds(30);
  absl::Duration lame_duck = absl::ZeroDuration();
  absl::Duration slow_reader_timeout = absl::Seconds(30);
  absl::Duration connection_age = absl::Minutes(30);  // 0: for ever
  absl::Duration connection_age_grace = absl::Minutes(10);
  std::string port_file;
  std::string tls_cert;  // empty: plain text
  std::string tls_key;
  std::string tls_client_ca;  // empty: clients need no certificate
  std::string auth_tokens;    // empty: nobody is asked for a token
  bool insecure_tokens = false;
  uint64_t max_message_bytes = uint64_t{4} << 20;
  uint64_t max_metadata_bytes = uint64_t{16} << 10;
  int max_streams = 128;
  bool reflection = true;
  bool log_json = true;
  std::string log_level = "info";
  bool log_prompts = false;
  bool help = false;
  bool version = false;
};

// Reads the arguments behind the program's name. INVALID_ARGUMENT with one line that names the flag
// and what it allows.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments);

std::string HelpText();

}  // namespace lectern
