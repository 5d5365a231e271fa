// The command line of `lectern`. Options may stand before or after the words; `--name=value` and
// `--name value` are the same; `--` ends the options.
#pragma once

#include <lectern/v1/ask.pb.h>
#include <lectern/v1/document.pb.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cpp/call_options.h"
#include "client/cpp/connection.h"

namespace lectern {

struct CliOptions {
  std::string command;             // empty: none was given
  std::vector<std::string> words;  // positional, after the command
  bool help = false;
  bool json = false;
  std::string server = "127.0.0.1:8001";
  absl::Duration timeout = absl::InfiniteDuration();
  std::string file;       // of `ask`: the document
  std::string questions;  // of `ask`: a file of them, one a line
  std::string report;     // of `ask`: the page to write
  bool serving = false;   // of `status`
  Connection connection;
  std::string token;
  bool insecure_token = false;  // in plain text, to other machines, too
  std::string tenant;
  std::string request_id;
  RetryPolicy retry;
  std::string model;  // empty: the server's default
  bool has_attention = false;
  lectern::v1::AttentionPolicy attention;
  lectern::v1::UploadMetadata upload;  // title, ttl, pinned, reading, priority
  lectern::v1::AskRequest ask;         // sampling, stop, limits, priority
};

// One option, as the parser and --help know it.
struct OptionSpec {
  std::string_view name;
  std::string_view value;     // what to write for its value in --help; empty: it takes none
  std::string_view commands;  // the commands it belongs to, separated by spaces; empty: all
  std::string_view help;
  // Returns false if the value is not allowed.
  std::function<bool(CliOptions&, const std::string& value)> set;
};

const std::vector<OptionSpec>& OptionSpecs();
bool BelongsTo(const OptionSpec& spec, std::string_view command);

// One command, likewise.
struct CommandSpec {
  std::string_view name;
  std::string_view words;  // e.g. "DOCUMENT QUESTION"
  std::string_view summary;
};
const std::vector<CommandSpec>& CommandSpecs();

// The value of an environment variable, or null: std::getenv, or a test's.
using Environment = std::function<const char*(const char* name)>;

// `arguments` is argv without the program's name. LECTERN_SERVER, LECTERN_TLS_CA, LECTERN_TLS_CERT,
// LECTERN_TLS_KEY and LECTERN_TLS_SERVER_NAME stand for the options of these names that are not
// given, LECTERN_TOKEN for what --token_file would hold; empty ones count as not set. Files of
// certificates and tokens are read here. INVALID_ARGUMENT says what is wrong, and with which
// option.
absl::StatusOr<CliOptions> ParseCommandLine(const std::vector<std::string>& arguments,
                                            const Environment& environment);

}  // namespace lectern
