// The command line of `lectern`. Options may precede or follow the words; `--name=value` and
// `--name value` are equivalent; `--` ends the options.
#pragma once

#include <lectern/v1/ask.pb.h>
#include <lectern/v1/document.pb.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/flags/flag_table.h"
#include "lectern/call_options.h"
#include "lectern/connection.h"

namespace lectern {

struct CliOptions {
  std::string command;
  std::vector<std::string> words;  // positional, after the command
  bool help = false;
  bool json = false;
  std::string server = "127.0.0.1:8001";
  absl::Duration timeout = absl::InfiniteDuration();
  std::string file;       // `ask`: the document
  std::string questions;  // `ask`: a file with one question per line
  std::string report;     // `ask`: the page to write
  bool serving = false;   // `status`
  Connection connection;
  std::string token;
  bool insecure_token = false;  // allow the token in plain text to other machines
  std::string tenant;
  std::string request_id;
  RetryPolicy retry;
  std::string model;  // empty: the server's default
  bool has_attention = false;
  lectern::v1::AttentionPolicy attention;  // of uploads and questions, if has_attention
  lectern::v1::UploadMetadata upload;      // title, ttl, pinned, reading, priority
  lectern::v1::AskRequest ask;             // everything but source, question, model and attention
};

// The table of commands and options, bound to `options`, which must outlive it.
flags::Table CliFlags(CliOptions& options);

// Help for one command, or the general help when `command` is empty.
std::string HelpText(std::string_view command);

// `arguments` is argv without the program's name. Options that are not given are read from the
// environment variables that --help names, LECTERN_TOKEN in place of --token_file; empty variables
// count as not set. Certificate and token files are read here. INVALID_ARGUMENT names the option
// and what is wrong with it.
absl::StatusOr<CliOptions> ParseCommandLine(const std::vector<std::string>& arguments,
                                            const flags::Environment& environment);

}  // namespace lectern
