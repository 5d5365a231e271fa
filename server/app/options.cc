#include "server/app/options.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/flags/flag_table.h"
#include "base/loopback.h"
#include "base/status_macros.h"
#include "server/app/version.h"
#include "server/model/prompt/prompt_format_file.h"

namespace lectern {
namespace {

using Numerics = ModelLoadOptions::Numerics;

std::string NameOf(const PolicyField& field) { return std::string(field.name); }
std::string MeaningOf(const PolicyField& field) { return std::string(field.meaning); }

flags::Value Models(Options* options) {
  const auto add = [options](const std::string& text) -> std::string {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (parts.size() != 2 || parts[0].empty() || parts[1].empty() || parts[0].size() > 64) {
      return "must be NAME=PATH with a name of at most 64 bytes";
    }
    for (const auto& [name, path] : options->models) {
      if (name == parts[0]) return absl::StrCat("gives the name '", name, "' twice");
    }
    options->models.emplace_back(parts[0], parts[1]);
    return "";
  };
  return flags::Required(
      flags::Repeatable({.placeholder = "NAME=PATH", .initial = "", .set = add}));
}

// The value of --FLAG=NAME=VALUE, which belongs to the model NAME. `set` stores VALUE and returns
// "", or what is allowed.
flags::Value OfOneModel(
    Options* options, const std::string& flag, std::string_view placeholder,
    std::function<std::string(const std::string& value, ModelSettings& settings)> set) {
  const auto add = [options, flag, set = std::move(set),
                    form = absl::StrCat("must be NAME=", std::string(placeholder))](
                       const std::string& text) -> std::string {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (parts.size() != 2 || parts[0].empty()) return form;
    const std::pair<std::string, std::string> given(flag, parts[0]);
    std::vector<std::pair<std::string, std::string>>& all = options->settings_given;
    if (std::find(all.begin(), all.end(), given) != all.end()) {
      return absl::StrCat("gives the model '", parts[0], "' twice");
    }
    all.push_back(given);
    const std::string allowed = set(parts[1], options->settings[parts[0]]);
    return allowed.empty() ? "" : absl::StrCat(form, "; ", allowed);
  };
  return flags::Repeatable(
      {.placeholder = absl::StrCat("NAME=", std::string(placeholder)), .initial = "", .set = add});
}

std::string SetNoAnswer(const std::string& value, ModelSettings& settings) {
  ModelSettings::NoAnswer& no_answer = settings.no_answer.emplace();
  if (value == "off") return "";
  double threshold = 0;
  if (!absl::SimpleAtod(value, &threshold) || !(std::abs(threshold) <= 1e6)) {
    return "a threshold is a number from -1e6 to 1e6";
  }
  no_answer.threshold = threshold;
  return "";
}

std::string SetLowerCase(const std::string& value, ModelSettings& settings) {
  if (value != "true" && value != "false") return "true and false are allowed";
  settings.lower_case = value == "true";
  return "";
}

std::string SetPromptFormat(const std::string& value, ModelSettings& settings) {
  absl::StatusOr<PromptFormat> format = ReadPromptFormat(value);
  if (!format.ok()) return std::string(format.status().message());
  settings.prompt_format = *std::move(format);
  return "";
}

std::string SetContextLength(const std::string& value, ModelSettings& settings) {
  constexpr int64_t kMost = int64_t{1} << 20;
  if (absl::SimpleAtoi(value, &settings.context_length) && settings.context_length >= 1 &&
      settings.context_length <= kMost) {
    return "";
  }
  return absl::StrCat("1 to ", kMost, " tokens are allowed");
}

void AddModelSettingFlags(flags::Table& table, Options& o) {
  table.Add({
      {"prompt_format", OfOneModel(&o, "prompt_format", "FORMAT|FILE", SetPromptFormat),
       "prompt the decoder NAME in a format other than that of its chat template: a known one, "
       "such as chatml or llama3.1 (docs/reference/prompt_formats.md), or a file; may be repeated",
       "by the chat template"},
      {"context_length", OfOneModel(&o, "context_length", "TOKENS", SetContextLength),
       "serve the model NAME with a shorter context than its own; may be repeated",
       "the model's own"},
      {"no_answer", OfOneModel(&o, "no_answer", "THRESHOLD|off", SetNoAnswer),
       "when the span reader NAME finds no answer: if the score of \"no answer\" exceeds the best "
       "span's by more than THRESHOLD; off: never; may be repeated",
       "0; off if its folder is named after SQuAD 1"},
      {"lower_case", OfOneModel(&o, "lower_case", "true|false", SetLowerCase),
       "whether the T5 model NAME reads questions and documents in lower case; may be repeated",
       "true for T5 v1.0, as UnifiedQA expects; false for T5 v1.1 and Flan-T5"},
  });
}

flags::Value Address(std::string* address) {
  flags::Value value = flags::Text(address, "HOST:PORT");
  value.set = [address](const std::string& text) -> std::string {
    const size_t colon = text.rfind(':');
    int port = -1;
    if (colon == std::string::npos || colon == 0 ||
        !absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 0 || port > 65535) {
      return "must be HOST:PORT with a port from 0 to 65535";
    }
    *address = text;
    return "";
  };
  return value;
}

void AddModelFlags(flags::Table& table, Options& o) {
  AttentionPolicy& policy = o.load.default_policy;
  const PolicyField& k = FieldOf(&AttentionPolicy::top_k);
  const PolicyField& layers = FieldOf(&AttentionPolicy::layer_k);
  const PolicyField& dense = FieldOf(&AttentionPolicy::dense_up_to);
  const PolicyField& tail = FieldOf(&AttentionPolicy::tail);
  table.Add({
      {"model", Models(&o),
       "load this model: a .gguf file, or a folder with config.json and safetensors files; may be "
       "repeated, the first model is the default"},
      {"numerics", flags::Choice(&o.load.numerics, NumericsWords()),
       "number format of the weights. blocks: blocks of 32 with the 4-, 5-, 6- or 8-bit codes of "
       "the GGUF file, types without such codes rounded to 8 bits; int8: rotated and rounded to 8 "
       "bits; f32: the slow fp32 reference; auto: blocks for quantised GGUF files if they take "
       "less memory than int8 or the CPU lacks AVX-512 VNNI, else int8. blocks and int8 keep keys "
       "and values as int8"},
      {"device",
       flags::Choice<DeviceKind>(&o.device,
                                 {{"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}}),
       "cuda: compute the int8 matrix products of prompts, documents and encoders on an NVIDIA "
       "GPU, "
       "with the same answers; has not been run on a GPU yet"},
      {"threads", flags::Number(&o.load.threads, 1, 1024), "threads per model step", "one per CPU"},
      {NameOf(k), flags::Number(&policy.top_k, 0, k.most, "K"),
       absl::StrCat("default ", MeaningOf(k), "; 0: dense attention")},
      {NameOf(layers), flags::Integers(&policy.layer_k, layers.least, layers.most, "K,K,..."),
       MeaningOf(layers)},
      {NameOf(dense), flags::Number(&policy.dense_up_to, dense.least, dense.most, "KEYS"),
       MeaningOf(dense)},
      {NameOf(tail),
       flags::Choice<AttentionPolicy::Tail>(&policy.tail, {{"mean", AttentionPolicy::Tail::kMean},
                                                           {"none", AttentionPolicy::Tail::kNone}}),
       MeaningOf(tail)},
  });
}

void AddCheckFlags(flags::Table& table, Options& o) {
  table.Add({
      {"check", flags::SwitchTo([&o] { o.check = true; }),
       "describe the models and say whether they would be served, without loading their weights; "
       "exit status 0, or 3 if one would not be served"},
      {"json", flags::SwitchTo([&o] { o.json = true; }),
       "with --check: print one JSON object a line"},
      {"encode", flags::SwitchTo([&o] { o.encode = true; }),
       "with --check: read one JSON string a line from standard input and print the token ids that "
       "it has as the text of a document, one JSON array a line"},
  });
}

void AddListenFlags(flags::Table& table, Options& o) {
  ConnectionOptions& c = o.connections;
  table.Add({
      {"listen", Address(&o.listen), "address of the gRPC port; port 0 picks a free one"},
      {"metrics_listen", Address(&o.metrics_listen),
       "address of the HTTP port with /metrics, /startupz, /readyz and /livez; port 0 picks a free "
       "one"},
      {"port_file", flags::Text(&o.port_file, "FILE"),
       "write the ports in use to this file, as JSON", "none"},
      {"reflection", flags::Boolean(&o.reflection), "serve gRPC reflection"},
      {"max_message_bytes", flags::Bytes(&c.max_message_bytes, 2 << 20, 256 << 20),
       "refuse larger messages (RESOURCE_EXHAUSTED)"},
      {"max_metadata_bytes", flags::Bytes(&c.max_metadata_bytes, 8 << 10, 1 << 20),
       "refuse calls with more metadata (RESOURCE_EXHAUSTED)"},
      {"max_streams", flags::Number(&c.max_streams, 1, 1 << 20),
       "concurrent calls per connection; further calls wait in the client"},
      {"slow_reader_timeout", flags::Duration(&c.slow_reader_timeout, absl::Milliseconds(1)),
       "end a stream whose reader accepts no message for this long (SLOW_READER)"},
      {"connection_age", flags::Duration(&c.max_age),
       "ask clients to reconnect after this long, so that they find new replicas; 0: never"},
      {"connection_age_grace", flags::Duration(&c.max_age_grace),
       "let running calls continue this long on a connection past its age; limits the longest "
       "call"},
      {"drain_timeout", flags::Duration(&o.drain_timeout),
       "give running calls this long to finish after SIGTERM"},
      {"lame_duck", flags::Duration(&o.lame_duck),
       "keep accepting calls for this long after SIGTERM so load balancers can stop routing here"},
  });
}

void AddDocumentFlags(flags::Table& table, EngineOptions& e) {
  table.Add({
      {"kv_bytes", flags::Bytes(&e.kv_bytes),
       "memory for the KV cache of documents and running answers"},
      {"kv_populate", flags::Boolean(&e.kv_populate),
       "allocate all of --kv_bytes at start instead of on demand"},
      {"cache_dir", flags::Text(&e.cache_dir, "DIR"),
       "also keep documents in this folder, where they survive restarts and eviction from memory",
       "none"},
      {"cache_bytes", flags::Bytes(&e.cache_bytes),
       "size limit of --cache_dir; the least recently used documents are deleted first"},
      {"tenant_bytes", flags::Bytes(&e.tenant_limits.bytes),
       "KV cache that the documents of one tenant may occupy", "no limit"},
      {"tenant_documents", flags::Number(&e.tenant_limits.documents, 1, 1 << 30),
       "documents that one tenant may store", "no limit"},
      {"default_ttl", flags::Duration(&e.default_ttl),
       "lifetime of documents uploaded without a TTL; 0: until deleted or evicted"},
      {"max_document_bytes", flags::Bytes(&e.limits.max_document_bytes), "refuse larger documents"},
      {"upload_bytes", flags::Bytes(&e.upload_bytes), "memory for texts still being uploaded"},
  });
}

void AddAnswerFlags(flags::Table& table, EngineOptions& e) {
  EngineLimits& l = e.limits;
  table.Add({
      {"max_new_tokens", flags::Number(&l.max_new_tokens, 1, 1 << 20),
       "longest answer, in tokens, that a request may ask for"},
      {"default_max_new_tokens", flags::Number(&l.default_max_new_tokens, 1, 1 << 20),
       "longest answer, in tokens, of requests that do not set a limit"},
      {"no_evidence_threshold", flags::Real(&e.no_evidence_threshold, 0, 1, "SHARE"),
       "flag an answer as no_evidence if its best evidence contains less than this share of the "
       "question's words"},
      {"queue_capacity", flags::Number(&l.queue.waiting, 1, 1 << 20),
       "requests that may wait; further ones are refused at once"},
      {"queue_tokens", flags::Count(&l.queue.waiting_tokens),
       "tokens that may wait for prefill; requests beyond that are refused at once"},
      {"queue_wait", flags::Duration(&l.queue.wait),
       "refuse a question at once if it would wait longer than this (an upload: a quarter of it); "
       "0: no limit"},
      {"max_running", flags::Number(&l.queue.running_questions, 1, 4096),
       "questions answered in one batch"},
      {"max_uploads", flags::Number(&l.queue.running_uploads, 1, 256),
       "uploads processed concurrently"},
      {"prefill_slice_tokens", flags::Number(&e.prefill_slice_tokens, 1, 8192),
       "prefill tokens per model step; half of it in steps that also decode"},
  });
}

void AddSecurityAndLogFlags(flags::Table& table, Options& o) {
  SecurityOptions& s = o.security;
  table.Add({
      {"tls_cert", flags::Text(&s.tls_cert, "FILE"),
       "PEM file with the server's certificate chain; without it connections are plain text",
       "none"},
      {"tls_key", flags::Text(&s.tls_key, "FILE"),
       "PEM file with the private key of --tls_cert, without a password", "none"},
      {"tls_client_ca", flags::Text(&s.tls_client_ca, "FILE"),
       "PEM file of certificate authorities; clients must present a certificate from one of them "
       "(mTLS)",
       "none"},
      {"auth_tokens", flags::Text(&s.auth_tokens, "FILE"),
       "JSON file with digests of bearer tokens and their tenants; calls without a valid token are "
       "refused",
       "none"},
      {"insecure_tokens", flags::Boolean(&s.insecure_tokens),
       "accept tokens over plain text on non-loopback addresses, where a proxy in front terminates "
       "TLS"},
      {"log_format", flags::Choice<bool>(&o.log.json, {{"text", false}, {"json", true}}),
       "format of the log on stdout, one line per event"},
      {"log_level",
       flags::Choice<LogLevel>(&o.log.level, {{"debug", LogLevel::kDebug},
                                              {"info", LogLevel::kInfo},
                                              {"warning", LogLevel::kWarning},
                                              {"error", LogLevel::kError}}),
       "log events of this level and above"},
      {"log_prompts", flags::Boolean(&o.log.prompts), "include questions and answers in the log"},
  });
}

// A table bound to `options`, which outlives it.
flags::Table FlagsOf(Options& options) {
  flags::Table table(
      {.name = "lectern-server",
       .introduction = "lectern-server: answers questions about long documents, over gRPC.\n\n"
                       "  lectern-server --model=smollm2=SmolLM2-135M-Instruct.Q4_1.gguf\n",
       .closing =
           "\nExit status: 0 after a clean shutdown (SIGTERM or SIGINT; a second signal exits "
           "at once with 1),\n1 for other failures, 2 for wrong flags, 3 for a model that "
           "cannot be loaded.\n",
       .version = kVersion,
       .refuses_repetition = true});
  AddModelFlags(table, options);
  AddModelSettingFlags(table, options);
  AddCheckFlags(table, options);
  AddListenFlags(table, options);
  AddDocumentFlags(table, options.engine);
  AddAnswerFlags(table, options.engine);
  AddSecurityAndLogFlags(table, options);
  return table;
}

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status CheckDevice(const Options& options) {
  const Numerics numerics = options.load.numerics;
  if (options.device == DeviceKind::kCuda && numerics != Numerics::kAuto &&
      numerics != Numerics::kInt8Rotated) {
    return Wrong("--device=cuda: supports int8 only; --numerics must be int8 or auto");
  }
  return absl::OkStatus();
}

// Flags of one model must name a model.
absl::Status CheckModelSettings(const Options& options) {
  for (const auto& [flag, model] : options.settings_given) {
    const bool known = std::any_of(options.models.begin(), options.models.end(),
                                   [&](const auto& one) { return one.first == model; });
    if (!known)
      return Wrong(absl::StrCat("--", flag, "=", model, "=...: no --model has this name"));
  }
  return absl::OkStatus();
}

// --json and --encode say how --check works.
absl::Status CheckCheck(const Options& options) {
  if (options.json && !options.check) return Wrong("--json: needs --check");
  if (options.encode && !options.check) return Wrong("--encode: needs --check");
  if (options.encode && options.json) return Wrong("--encode: excludes --json");
  if (options.encode && options.models.size() > 1) return Wrong("--encode: takes one --model");
  return absl::OkStatus();
}

absl::Status CheckSecurity(const Options& options) {
  const SecurityOptions& security = options.security;
  const bool tls = !security.tls_cert.empty();
  if (tls != !security.tls_key.empty()) {
    return Wrong("--tls_cert and --tls_key: one needs the other");
  }
  if (!security.tls_client_ca.empty() && !tls) {
    return Wrong("--tls_client_ca: needs --tls_cert and --tls_key");
  }
  if (!security.auth_tokens.empty() && !tls && !security.insecure_tokens &&
      !IsLoopback(options.listen)) {
    return Wrong(absl::StrCat(
        "--auth_tokens: tokens would travel in plain text on --listen=", options.listen,
        "; give --tls_cert and --tls_key, or --insecure_tokens=true if a "
        "proxy in front terminates TLS"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments) {
  Options options;
  LECTERN_ASSIGN_OR_RETURN(const flags::Arguments parsed, FlagsOf(options).Parse(arguments));
  options.help = parsed.help;
  options.version = parsed.version;
  if (options.help || options.version) return options;
  const EngineLimits& limits = options.engine.limits;
  if (limits.default_max_new_tokens > limits.max_new_tokens) {
    return Wrong(absl::StrCat("--default_max_new_tokens=", limits.default_max_new_tokens,
                              ": must not exceed --max_new_tokens=", limits.max_new_tokens));
  }
  LECTERN_RETURN_IF_ERROR(CheckCheck(options));
  LECTERN_RETURN_IF_ERROR(CheckModelSettings(options));
  LECTERN_RETURN_IF_ERROR(CheckDevice(options));
  LECTERN_RETURN_IF_ERROR(CheckSecurity(options));
  return options;
}

std::string HelpText() {
  Options defaults;
  return FlagsOf(defaults).Help();
}

}  // namespace lectern
