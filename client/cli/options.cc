#include "client/cli/options.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/files/mapped_file.h"
#include "base/loopback.h"
#include "base/status_macros.h"

namespace lectern {
namespace {

using lectern::v1::AttentionPolicy;

bool ParseUint32(const std::string& text, uint32_t& out) { return absl::SimpleAtoi(text, &out); }

bool ParseSeconds(const std::string& text, double& out) {
  return absl::SimpleAtod(text, &out) && std::isfinite(out) && out > 0 && out < 1e9;
}

AttentionPolicy& Attention(CliOptions& options) {
  options.has_attention = true;
  return options.attention;
}

bool SetTail(CliOptions& options, const std::string& value) {
  if (value != "none" && value != "mean") return false;
  Attention(options).set_tail(value == "none" ? AttentionPolicy::TAIL_NONE
                                              : AttentionPolicy::TAIL_MEAN);
  return true;
}

bool SetTopK(CliOptions& options, const std::string& value) {
  uint32_t k;
  if (!ParseUint32(value, k)) return false;
  Attention(options).set_top_k(k);
  return true;
}

bool SetTimeout(CliOptions& options, const std::string& value) {
  double seconds;
  if (!ParseSeconds(value, seconds)) return false;
  options.timeout = absl::Seconds(seconds);
  return true;
}

bool SetTtl(CliOptions& options, const std::string& value) {
  double seconds;
  if (!ParseSeconds(value, seconds)) return false;
  const timespec time = absl::ToTimespec(absl::Seconds(seconds));
  options.upload.mutable_ttl()->set_seconds(time.tv_sec);
  options.upload.mutable_ttl()->set_nanos(static_cast<int32_t>(time.tv_nsec));
  return true;
}

bool SetTokens(CliOptions& options, const std::string& value) {
  uint32_t tokens;
  if (!ParseUint32(value, tokens)) return false;
  options.ask.set_max_new_tokens(tokens);
  return true;
}

bool SetEvidence(CliOptions& options, const std::string& value) {
  uint32_t spans;
  if (!ParseUint32(value, spans)) return false;
  options.ask.set_max_evidence_spans(spans);
  return true;
}

bool SetTemperature(CliOptions& options, const std::string& value) {
  float temperature;
  if (!absl::SimpleAtof(value, &temperature)) return false;
  options.ask.mutable_sampling()->set_temperature(temperature);
  return true;
}

bool SetTopP(CliOptions& options, const std::string& value) {
  float top_p;
  if (!absl::SimpleAtof(value, &top_p)) return false;
  options.ask.mutable_sampling()->set_top_p(top_p);
  return true;
}

bool SetSeed(CliOptions& options, const std::string& value) {
  uint64_t seed;
  if (!absl::SimpleAtoi(value, &seed)) return false;
  options.ask.mutable_sampling()->set_seed(seed);
  return true;
}

bool SetReading(CliOptions& options, const std::string& value) {
  lectern::v1::Reading reading;
  if (!lectern::v1::Reading_Parse("READING_" + absl::AsciiStrToUpper(value), &reading)) {
    return false;
  }
  options.upload.set_reading(reading);
  options.ask.set_reading(reading);
  return true;
}

bool SetPriority(CliOptions& options, const std::string& value) {
  lectern::v1::Priority priority;
  if (!lectern::v1::Priority_Parse("PRIORITY_" + absl::AsciiStrToUpper(value), &priority)) {
    return false;
  }
  options.upload.set_priority(priority);
  options.ask.set_priority(priority);
  return true;
}

bool SetRetries(CliOptions& options, const std::string& value) {
  uint32_t retries;
  if (!ParseUint32(value, retries) || retries > 1000) return false;
  options.retry.max_attempts = 1 + static_cast<int>(retries);
  return true;
}

// A whole file of a certificate, key or token.
bool ReadInto(std::string& text, const std::string& path) {
  const auto file = MappedFile::Open(path);
  if (!file.ok()) return false;
  text = std::string(file->bytes());
  return !text.empty();
}

bool SetTokenFile(CliOptions& options, const std::string& value) {
  if (!ReadInto(options.token, value)) return false;
  absl::StripAsciiWhitespace(&options.token);
  return !options.token.empty();
}

bool IsCommand(const std::string& name) {
  const auto& specs = CommandSpecs();
  return std::any_of(specs.begin(), specs.end(),
                     [&name](const CommandSpec& spec) { return spec.name == name; });
}

const OptionSpec* FindOption(const std::string& name) {
  for (const OptionSpec& spec : OptionSpecs()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

// Reads the option at arguments[i], and its value from arguments[i + 1] if it needs that; moves i
// to the last argument it used.
absl::StatusOr<const OptionSpec*> ReadOption(const std::vector<std::string>& arguments, size_t& i,
                                             CliOptions& options) {
  const std::string& argument = arguments[i];
  const size_t equals = argument.find('=');
  const std::string shown = argument.substr(0, equals);
  const OptionSpec* spec = argument == "-h"
                               ? FindOption("help")
                               : FindOption(shown.substr(shown.find_first_not_of('-')));
  if (spec == nullptr || (argument != "-h" && argument.compare(0, 2, "--") != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("unknown option ", shown));
  }
  std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
  if (spec->value.empty() && equals != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(shown, " takes no value"));
  }
  if (!spec->value.empty() && equals == std::string::npos) {
    if (++i == arguments.size()) {
      return absl::InvalidArgumentError(absl::StrCat(shown, " needs a value"));
    }
    value = arguments[i];
  }
  if (!spec->set(options, value)) {
    return absl::InvalidArgumentError(absl::StrCat("bad value for ", shown, ": '", value, "'"));
  }
  return spec;
}

absl::Status CheckCommand(const CliOptions& options, const std::vector<const OptionSpec*>& used) {
  if (!IsCommand(options.command)) {
    return absl::InvalidArgumentError(absl::StrCat("unknown command '", options.command, "'"));
  }
  for (const OptionSpec* spec : used) {
    if (BelongsTo(*spec, options.command)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", std::string(spec->name), " does not belong to ", options.command));
  }
  if (!options.report.empty() && !options.questions.empty()) {
    return absl::InvalidArgumentError("--report is of one question, not of --questions");
  }
  size_t expected = 0;
  if (options.command == "upload" || options.command == "delete") expected = 1;
  if (options.command == "ask") {
    expected = (options.file.empty() ? 1 : 0) + (options.questions.empty() ? 1 : 0);
  }
  if (options.words.size() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(options.command, " takes ", expected, expected == 1 ? " word" : " words",
                   ", not ", options.words.size(), " (put a question in quotes)"));
}

// What options that were not given take from the environment.
absl::Status ReadEnvironment(const Environment& environment,
                             const std::vector<const OptionSpec*>& used, CliOptions& options) {
  const auto value_of = [&](const char* name) -> std::string {
    const char* const value = environment(name);
    return value == nullptr ? "" : value;
  };
  if (options.token.empty()) options.token = value_of("LECTERN_TOKEN");
  for (const char* const name : {"server", "tls_ca", "tls_cert", "tls_key", "tls_server_name"}) {
    const OptionSpec* const spec = FindOption(name);
    const std::string variable = absl::StrCat("LECTERN_", absl::AsciiStrToUpper(name));
    const std::string value = value_of(variable.c_str());
    if (value.empty() || std::find(used.begin(), used.end(), spec) != used.end()) continue;
    if (!spec->set(options, value)) {
      return absl::InvalidArgumentError(absl::StrCat("bad value in ", variable, ": '", value, "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSecurity(const CliOptions& options) {
  LECTERN_RETURN_IF_ERROR(CheckConnection(options.server, options.connection));
  if (options.token.empty() || !options.connection.authorities.empty() || options.insecure_token) {
    return absl::OkStatus();
  }
  for (const auto& address : absl::StrSplit(options.server, ',')) {
    if (IsLoopback({address.data(), address.size()})) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the token would travel to ", std::string(address),
                     " in plain text: give --tls_ca, or --insecure_token"));
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<CommandSpec>& CommandSpecs() {
  static const auto& specs = *new std::vector<CommandSpec>{
      {"upload", "FILE|-", "send a text (UTF-8) to be read; prints its id"},
      {"ask", "DOCUMENT QUESTION", "ask a question about a document that was uploaded"},
      {"documents", "", "list the documents that the server keeps"},
      {"delete", "DOCUMENT", "delete a document"},
      {"models", "", "list the models that the server has loaded"},
      {"status", "", "tell what the server is doing and what its limits are"},
  };
  return specs;
}

const std::vector<OptionSpec>& OptionSpecs() {
  static const auto& specs = *new std::vector<OptionSpec>{
      {"file", "FILE", "ask", "ask about FILE, which is uploaded if the server does not have it",
       [](CliOptions& o, const std::string& v) { return !(o.file = v).empty(); }},
      {"questions", "FILE|-", "ask", "ask every line of FILE, all at once, instead of QUESTION",
       [](CliOptions& o, const std::string& v) { return !(o.questions = v).empty(); }},
      {"report", "FILE", "ask",
       "write a page with the answer and its evidence in the document, too",
       [](CliOptions& o, const std::string& v) { return !(o.report = v).empty(); }},
      {"model", "NAME", "upload ask documents", "this model instead of the server's default",
       [](CliOptions& o, const std::string& v) { return !(o.model = v).empty(); }},
      {"title", "TEXT", "upload ask", "title of the document (the file's name)",
       [](CliOptions& o, const std::string& v) { return o.upload.set_title(v), true; }},
      {"ttl", "S", "upload ask", "forget the document after S seconds", SetTtl},
      {"pinned", "", "upload ask", "never evict the document to make room",
       [](CliOptions& o, const std::string&) { return o.upload.set_pinned(true), true; }},
      {"reading", "MODE", "upload ask", "auto, whole (in one prompt) or chunks", SetReading},
      {"priority", "WHO", "upload ask", "interactive, or bulk: after those who wait for an answer",
       SetPriority},
      {"top_k", "K", "upload ask", "keys that each query keeps", SetTopK},
      {"exact", "", "upload ask", "dense attention: keep every key",
       [](CliOptions& o, const std::string&) { return Attention(o).set_exact(true), true; }},
      {"tail", "none|mean", "upload ask", "what becomes of the keys that are not kept", SetTail},
      {"max_new_tokens", "N", "ask", "longest answer, in tokens", SetTokens},
      {"evidence", "N", "ask", "sentences of evidence to show (3)", SetEvidence},
      {"stop", "TEXT", "ask", "end the answer before this text; may be repeated",
       [](CliOptions& o, const std::string& v) { return o.ask.add_stop(v), true; }},
      {"temperature", "T", "ask", "sample with this temperature (0: greedy)", SetTemperature},
      {"top_p", "P", "ask", "sample from the likeliest tokens of this total share", SetTopP},
      {"seed", "N", "ask", "seed of the sampler: the same seed, the same answer", SetSeed},
      {"retries", "N", "upload ask", "try again so often when a server goes away (4)", SetRetries},
      {"wait_when_full", "", "upload ask", "when the server is full, too: as long as it says",
       [](CliOptions& o, const std::string&) { return o.retry.when_full = true; }},
      {"serving", "", "status", "fail unless the server is serving: for probes of its health",
       [](CliOptions& o, const std::string&) { return o.serving = true; }},
      {"tenant", "NAME", "", "who asks: the unit of fairness and quotas",
       [](CliOptions& o, const std::string& v) { return !(o.tenant = v).empty(); }},
      {"request_id", "ID", "", "the call's name in the server's log",
       [](CliOptions& o, const std::string& v) { return !(o.request_id = v).empty(); }},
      {"server", "HOST:PORT", "",
       "the server (127.0.0.1:8001, or $LECTERN_SERVER); several addresses, or any gRPC target",
       [](CliOptions& o, const std::string& v) { return !(o.server = v).empty(); }},
      {"tls_ca", "FILE", "",
       "TLS, to servers with a certificate issued by one of these (PEM); this and the next three: "
       "or $LECTERN_TLS_CA and so on",
       [](CliOptions& o, const std::string& v) { return ReadInto(o.connection.authorities, v); }},
      {"tls_cert", "FILE", "",
       "the certificate to show to servers that ask for one (or $LECTERN_TLS_CERT)",
       [](CliOptions& o, const std::string& v) { return ReadInto(o.connection.certificate, v); }},
      {"tls_key", "FILE", "", "its key (or $LECTERN_TLS_KEY)",
       [](CliOptions& o, const std::string& v) { return ReadInto(o.connection.key, v); }},
      {"tls_server_name", "NAME", "",
       "the name in the server's certificate, if not --server's (or $LECTERN_TLS_SERVER_NAME)",
       [](CliOptions& o, const std::string& v) { return !(o.connection.server_name = v).empty(); }},
      {"token_file", "FILE", "", "holds the token that the server asks for (or $LECTERN_TOKEN)",
       SetTokenFile},
      {"insecure_token", "", "", "send the token in plain text to other machines, too",
       [](CliOptions& o, const std::string&) { return o.insecure_token = true; }},
      {"timeout", "S", "",
       "give up after S seconds (at most 300 for a question, 600 for an upload)", SetTimeout},
      {"json", "", "", "one JSON object a line instead of text (protobuf's JSON mapping)",
       [](CliOptions& o, const std::string&) { return o.json = true; }},
      {"help", "", "", "show this help; after a command, the help of that command",
       [](CliOptions& o, const std::string&) { return o.help = true; }},
  };
  return specs;
}

bool BelongsTo(const OptionSpec& spec, std::string_view command) {
  if (spec.commands.empty()) return true;
  for (const absl::string_view name :
       absl::StrSplit(absl::string_view(spec.commands.data(), spec.commands.size()), ' ')) {
    if (std::string_view(name.data(), name.size()) == command) return true;
  }
  return false;
}

absl::StatusOr<CliOptions> ParseCommandLine(const std::vector<std::string>& arguments,
                                            const Environment& environment) {
  CliOptions options;
  std::vector<const OptionSpec*> used;
  bool options_ended = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!options_ended && argument == "--") {
      options_ended = true;
    } else if (!options_ended && argument.size() > 1 && argument[0] == '-') {
      LECTERN_ASSIGN_OR_RETURN(const OptionSpec* spec, ReadOption(arguments, i, options));
      used.push_back(spec);
    } else if (options.command.empty()) {
      options.command = argument;
    } else {
      options.words.push_back(argument);
    }
  }
  if (options.command.empty()) {
    if (options.help) return options;
    return absl::InvalidArgumentError("no command was given");
  }
  if (options.help && IsCommand(options.command)) return options;
  LECTERN_RETURN_IF_ERROR(CheckCommand(options, used));
  LECTERN_RETURN_IF_ERROR(ReadEnvironment(environment, used, options));
  LECTERN_RETURN_IF_ERROR(CheckSecurity(options));
  return options;
}

}  // namespace lectern
