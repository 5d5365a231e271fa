// The server's options and the flags that set them. docs/reference/flags.md holds the table that
// --help prints.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "server/engine/engine.h"
#include "server/model/load_options.h"
#include "server/rpc/call/call_record.h"

namespace lectern {

// Limits of gRPC connections and streams.
struct ConnectionOptions {
  uint64_t max_message_bytes = uint64_t{4} << 20;
  uint64_t max_metadata_bytes = uint64_t{16} << 10;
  int max_streams = 128;                       // per connection
  absl::Duration max_age = absl::Minutes(30);  // 0: unlimited
  absl::Duration max_age_grace = absl::Minutes(10);
  absl::Duration slow_reader_timeout = RpcEnvironment().slow_reader_timeout;
};

// Files are PEM, except `auth_tokens`, which is JSON.
struct SecurityOptions {
  std::string tls_cert;  // empty: plain text
  std::string tls_key;
  std::string tls_client_ca;  // empty: clients need no certificate
  std::string auth_tokens;    // empty: calls need no token
  bool insecure_tokens = false;
};

struct LogOptions {
  bool json = true;
  LogLevel level = LogLevel::kInfo;
  bool prompts = false;  // log questions and answers
};

enum class DeviceKind { kCpu, kCuda };

struct Options {
  std::string listen = "127.0.0.1:8001";
  std::string metrics_listen = "127.0.0.1:8002";
  std::string port_file;
  std::vector<std::pair<std::string, std::string>> models;  // name, path; the first is the default
  // How every model is loaded; name, path, settings and device are filled in for each. 0 threads:
  // one per CPU.
  ModelLoadOptions load{.threads = 0};
  std::map<std::string, ModelSettings> settings;  // by model name; of models that have flags
  // Flags of the form --FLAG=NAME=VALUE on the command line: flag, name.
  std::vector<std::pair<std::string, std::string>> settings_given;
  DeviceKind device = DeviceKind::kCpu;
  EngineOptions engine;
  ConnectionOptions connections;
  SecurityOptions security;
  LogOptions log;
  bool reflection = true;
  absl::Duration drain_timeout = absl::Seconds(30);
  absl::Duration lame_duck = absl::ZeroDuration();
  bool check = false;   // describe the models instead of serving (server/app/check.h)
  bool json = false;    // with check: as JSON
  bool encode = false;  // with check: encode standard input
  bool help = false;
  bool version = false;
};

// Reads argv without the program's name. INVALID_ARGUMENT in one line that names the flag, its
// value and what is allowed.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments);

std::string HelpText();

}  // namespace lectern
