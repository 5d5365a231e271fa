#include "server/app/options.h"

#include <algorithm>
#include <functional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/loopback.h"

namespace lectern {
namespace {

// What a flag allows, or "" when the value has been taken.
using Setter = std::function<std::string(Options&, const std::string&)>;

struct Flag {
  const char* name;
  const char* value;  // how the value is written in --help; null for a switch
  const char* fallback;
  const char* help;
  Setter set;
};

bool ParseBytes(const std::string& text, uint64_t* bytes) {
  static constexpr std::pair<const char*, uint64_t> kUnits[] = {
      {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"", 1}};
  for (const auto& [unit, factor] : kUnits) {
    if (!absl::EndsWith(text, unit)) continue;
    uint64_t number = 0;
    if (!absl::SimpleAtoi(text.substr(0, text.size() - std::string(unit).size()), &number)) {
      return false;
    }
    return !__builtin_mul_overflow(number, factor, bytes);
  }
  return false;
}

Setter Text(std::string Options::*field) {
  return [field](Options& o, const std::string& v) {
    if (v.empty()) return std::string("must not be empty");
    o.*field = v;
    return std::string();
  };
}

Setter Bytes(uint64_t Options::*field, uint64_t low = 1, uint64_t high = 1ull << 46) {
  return [=](Options& o, const std::string& v) {
    uint64_t bytes = 0;
    if (!ParseBytes(v, &bytes) || bytes < low || bytes > high) {
      return absl::StrCat("must be a number of bytes from ", low, " to ", high,
                          ", as 1073741824, 512MiB or 4GiB");
    }
    o.*field = bytes;
    return std::string();
  };
}

template <typename T>
Setter Number(T Options::*field, int64_t low, int64_t high) {
  return [=](Options& o, const std::string& v) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(v, &number) || number < low || number > high) {
      return absl::StrCat("must be a whole number from ", low, " to ", high);
    }
    o.*field = static_cast<T>(number);
    return std::string();
  };
}

Setter Keys(int64_t AttentionPolicy::*field) {
  return [field](Options& o, const std::string& v) {
    int64_t keys = 0;
    if (!absl::SimpleAtoi(v, &keys) || keys < 0 || keys > 65536) {
      return std::string("must be a whole number from 0 to 65536");
    }
    o.policy.*field = keys;
    return std::string();
  };
}

Setter Duration(absl::Duration Options::*field) {
  return [field](Options& o, const std::string& v) {
    absl::Duration duration;
    if (!absl::ParseDuration(v, &duration) || duration < absl::ZeroDuration() ||
        duration > absl::Hours(24 * 365)) {
      return std::string("must be a duration of at least 0, as 500ms, 30s or 2h");
    }
    o.*field = duration;
    return std::string();
  };
}

std::string SetModel(Options& o, const std::string& v) {
  const std::vector<std::string> parts = absl::StrSplit(v, absl::MaxSplits('=', 1));
  if (parts.size() != 2 || parts[0].empty() || parts[1].empty() || parts[0].size() > 64) {
    return "must be NAME=PATH, the name at most 64 bytes";
  }
  for (const auto& [name, path] : o.models) {
    if (name == parts[0]) return absl::StrCat("gives the name '", name, "' twice");
  }
  o.models.emplace_back(parts[0], parts[1]);
  return "";
}

std::string SetLayers(Options& o, const std::string& v) {
  o.policy.layer_k.clear();
  for (const auto& part : absl::StrSplit(v, ',', absl::SkipEmpty())) {
    int64_t k = 0;
    if (!absl::SimpleAtoi(part, &k) || k < 0 || k > 65536) {
      return "must be numbers from 0 to 65536, separated by commas";
    }
    o.policy.layer_k.push_back(k);
  }
  return "";
}

std::string OneOf(const std::string& v, std::initializer_list<const char*> allowed) {
  std::string list;
  for (const char* word : allowed) {
    if (v == word) return "";
    absl::StrAppend(&list, list.empty() ? "" : ", ", word);
  }
  return absl::StrCat("must be one of ", list);
}

const std::vector<Flag>& Flags() {
  static const std::vector<Flag> flags = {
      {"model", "NAME=PATH", "required",
       "a model to keep loaded: a .gguf file, or a folder with config.json and safetensors; "
       "repeatable, the first is the default",
       SetModel},
      {"listen", "HOST:PORT", "127.0.0.1:8001", "gRPC; port 0 takes a free one",
       Text(&Options::listen)},
      {"metrics_listen", "HOST:PORT", "127.0.0.1:8002",
       "HTTP: /metrics, /startupz, /readyz, /livez; port 0 takes a free one",
       Text(&Options::metrics_listen)},
      {"port_file", "FILE", "none", "write the ports in use there, as JSON",
       Text(&Options::port_file)},
      {"numerics", "auto|blocks|int8|f32", "auto",
       "blocks: weights as a GGUF file has them (Q4_0, Q4_1, Q8_0); int8: mixed and rounded to 8 "
       "bits; "
       "both with int8 keys and values; f32: the reference, slower and larger; auto: blocks for "
       "such "
       "files on CPUs without AVX-512 VNNI, else int8",
       [](Options& o, const std::string& v) {
         if (ParseNumerics(v, o.numerics)) return std::string();
         return OneOf(v, {"auto", "blocks", "int8", "f32"});
       }},
      {"device", "cpu|cuda", "cpu",
       "cuda: matrix products of prompts, documents and encoders on an NVIDIA GPU, with numerics "
       "int8; "
       "the same answers; has not run on a GPU yet",
       [](Options& o, const std::string& v) {
         o.device = v == "cuda" ? Options::Device::kCuda : Options::Device::kCpu;
         return OneOf(v, {"cpu", "cuda"});
       }},
      {"threads", "N", "one for each CPU", "threads of a model step",
       Number(&Options::threads, 1, 1024)},
      {"kv_bytes", "BYTES", "1GiB", "memory for keys and values of documents and answers",
       Bytes(&Options::kv_bytes)},
      {"kv_populate", "true|false", "false",
       "take all of --kv_bytes at the start, not as documents come",
       [](Options& o, const std::string& v) {
         o.kv_populate = v == "true";
         return OneOf(v, {"true", "false"});
       }},
      {"cache_dir", "DIR", "none",
       "keep documents on disk, too: they survive restarts and shortage of memory",
       Text(&Options::cache_dir)},
      {"cache_bytes", "BYTES", "16GiB", "of the files there; the documents used longest ago go",
       Bytes(&Options::cache_bytes)},
      {"tenant_bytes", "BYTES", "none", "keys and values that the documents of one tenant may take",
       Bytes(&Options::tenant_bytes)},
      {"tenant_documents", "N", "none", "documents that one tenant may have",
       Number(&Options::tenant_documents, 1, 1 << 30)},
      {"top_k", "K", "128", "keys that each query keeps by default; 0 is dense attention",
       Keys(&AttentionPolicy::top_k)},
      {"layer_top_k", "K,K,...", "0", "k of layers 0, 1, ... where it is not --top_k; 0 is dense",
       SetLayers},
      {"dense_up_to", "KEYS", "1024",
       "tokens that see at most so many keys attend to all of them, which is faster there",
       Keys(&AttentionPolicy::dense_up_to)},
      {"tail", "mean|none", "mean",
       "mean: dropped attention goes to the mean of the dropped values; none: renormalise",
       [](Options& o, const std::string& v) {
         o.policy.tail = v == "mean" ? AttentionPolicy::Tail::kMean : AttentionPolicy::Tail::kNone;
         return OneOf(v, {"mean", "none"});
       }},
      {"max_document_bytes", "BYTES", "64MiB", "larger documents are refused",
       Bytes(&Options::max_document_bytes)},
      {"upload_bytes", "BYTES", "256MiB", "memory for texts that are still arriving",
       Bytes(&Options::upload_bytes)},
      {"max_new_tokens", "N", "1024", "the longest answer a client may ask for",
       Number(&Options::max_new_tokens, 1, 1 << 20)},
      {"default_max_new_tokens", "N", "128", "the longest answer when the client does not say",
       Number(&Options::default_max_new_tokens, 1, 1 << 20)},
      {"queue_capacity", "N", "64", "requests that may wait; more are refused at once",
       Number(&Options::queue_capacity, 1, 1 << 20)},
      {"queue_tokens", "N", "1M", "tokens that may wait to be read; more are refused at once",
       Bytes(&Options::queue_tokens)},
      {"queue_wait", "DURATION", "0s",
       "longest time that waiting questions may take (uploads: a quarter); more are refused at "
       "once; "
       "0s = no limit",
       Duration(&Options::queue_wait)},
      {"max_running", "N", "16", "questions answered in one batch",
       Number(&Options::max_running, 1, 4096)},
      {"max_uploads", "N", "2", "documents read side by side",
       Number(&Options::max_uploads, 1, 256)},
      {"prefill_slice_tokens", "N", "256", "longest model step; half of it beside decoding",
       Number(&Options::prefill_slice_tokens, 1, 8192)},
      {"default_ttl", "DURATION", "0",
       "documents without a ttl of their own live that long; 0: until evicted",
       Duration(&Options::default_ttl)},
      {"no_evidence_threshold", "SHARE", "0.6",
       "answers whose best evidence holds less of the question's words are flagged no_evidence",
       [](Options& o, const std::string& v) {
         double share = 0;
         if (!absl::SimpleAtod(v, &share) || !(share >= 0 && share <= 1)) {
           return std::string("must be a number from 0 to 1");
         }
         o.no_evidence_threshold = share;
         return std::string();
       }},
      {"drain_timeout", "DURATION", "30s", "what runs at SIGTERM may take that long to finish",
       Duration(&Options::drain_timeout)},
      {"lame_duck", "DURATION", "0s",
       "after SIGTERM new calls are still served that long, while balancers look away",
       Duration(&Options::lame_duck)},
      {"slow_reader_timeout", "DURATION", "30s",
       "a stream whose reader takes no message for that long is ended, SLOW_READER",
       [](Options& o, const std::string& v) {
         const std::string error = Duration(&Options::slow_reader_timeout)(o, v);
         const bool positive = o.slow_reader_timeout > absl::ZeroDuration();
         return !error.empty() || positive ? error : std::string("must be more than 0");
       }},
      {"connection_age", "DURATION", "30m",
       "then a connection is asked to reconnect, so that clients find new replicas; 0: never",
       Duration(&Options::connection_age)},
      {"connection_age_grace", "DURATION", "10m",
       "calls may go on that long on a connection that is too old; the longest call",
       Duration(&Options::connection_age_grace)},
      {"max_message_bytes", "BYTES", "4MiB", "larger messages are refused, RESOURCE_EXHAUSTED",
       Bytes(&Options::max_message_bytes, 2 << 20, 256 << 20)},
      {"max_metadata_bytes", "BYTES", "16KiB",
       "calls with more metadata are refused, RESOURCE_EXHAUSTED",
       Bytes(&Options::max_metadata_bytes, 8 << 10, 1 << 20)},
      {"max_streams", "N", "128", "calls at once on one connection; more wait in the client",
       Number(&Options::max_streams, 1, 1 << 20)},
      {"tls_cert", "FILE", "none",
       "PEM: the server's certificate and those that issued it; without it plain text",
       Text(&Options::tls_cert)},
      {"tls_key", "FILE", "none", "PEM: the key of --tls_cert, without a password",
       Text(&Options::tls_key)},
      {"tls_client_ca", "FILE", "none",
       "PEM: clients must show a certificate issued by one of these (mTLS)",
       Text(&Options::tls_client_ca)},
      {"auth_tokens", "FILE", "none",
       "JSON: digests of bearer tokens and their tenants; calls without one are refused",
       Text(&Options::auth_tokens)},
      {"insecure_tokens", "true|false", "false",
       "take tokens over plain text on other addresses than loopback: a proxy in front has TLS",
       [](Options& o, const std::string& v) {
         o.insecure_tokens = v == "true";
         return OneOf(v, {"true", "false"});
       }},
      {"reflection", "true|false", "true", "gRPC reflection",
       [](Options& o, const std::string& v) {
         o.reflection = v == "true";
         return OneOf(v, {"true", "false"});
       }},
      {"log_format", "text|json", "json", "one line an event, on stdout",
       [](Options& o, const std::string& v) {
         o.log_json = v == "json";
         return OneOf(v, {"text", "json"});
       }},
      {"log_level", "LEVEL", "info", "debug, info, warning or error",
       [](Options& o, const std::string& v) {
         o.log_level = v;
         return OneOf(v, {"debug", "info", "warning", "error"});
       }},
      {"log_prompts", "true|false", "false", "questions and answers stand in the log, too",
       [](Options& o, const std::string& v) {
         o.log_prompts = v == "true";
         return OneOf(v, {"true", "false"});
       }},
      {"version", nullptr, "", "print the version and exit",
       [](Options& o, const std::string&) {
         o.version = true;
         return std::string();
       }},
      {"help", nullptr, "", "print this and exit",
       [](Options& o, const std::string&) {
         o.help = true;
         return std::string();
       }},
  };
  return flags;
}

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status CheckAddress(const char* flag, const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return Bad(absl::StrCat("--", flag, "=", address, ": must be HOST:PORT, the port 0 to 65535"));
  }
  return absl::OkStatus();
}

absl::Status CheckDevice(const Options& options) {
  using Numerics = ModelLoadOptions::Numerics;
  if (options.device == Options::Device::kCuda && options.numerics != Numerics::kAuto &&
      options.numerics != Numerics::kInt8Rotated) {
    return Bad("--device=cuda: multiplies int8 alone; --numerics must be int8 or auto");
  }
  return absl::OkStatus();
}

absl::Status CheckSecurity(const Options& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return Bad("--tls_cert and --tls_key: one needs the other");
  }
  if (!options.tls_client_ca.empty() && options.tls_cert.empty()) {
    return Bad("--tls_client_ca: needs --tls_cert and --tls_key");
  }
  if (!options.auth_tokens.empty() && options.tls_cert.empty() && !options.insecure_tokens &&
      !IsLoopback(options.listen)) {
    return Bad(absl::StrCat("--auth_tokens: on --listen=", options.listen,
                            " tokens would travel in plain text; give --tls_cert and --tls_key, "
                            "or --insecure_tokens=true behind a proxy with TLS"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments) {
  Options options;
  std::set<std::string> seen;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!absl::StartsWith(argument, "--")) {
      return Bad(absl::StrCat(argument, ": flags start with --; --help lists them"));
    }
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
    const auto flag =
        std::find_if(Flags().begin(), Flags().end(), [&](const Flag& f) { return name == f.name; });
    if (flag == Flags().end()) {
      return Bad(absl::StrCat("--", name, ": there is no such flag; --help lists them"));
    }
    if (!seen.insert(name).second && name != "model") {
      return Bad(absl::StrCat("--", name, ": is given twice"));
    }
    std::string value;
    if (flag->value != nullptr) {
      if (equals != std::string::npos) {
        value = argument.substr(equals + 1);
      } else if (i + 1 < arguments.size()) {
        value = arguments[++i];
      } else {
        return Bad(absl::StrCat("--", name, ": needs a value, ", flag->value));
      }
    }
    if (const std::string error = flag->set(options, value); !error.empty()) {
      return Bad(absl::StrCat("--", name, flag->value ? "=" : "", value, ": ", error));
    }
  }
  if (options.help || options.version) return options;
  if (options.models.empty()) return Bad("--model: is required, as --model=NAME=PATH");
  if (options.default_max_new_tokens > options.max_new_tokens) {
    return Bad("--default_max_new_tokens: must not be above --max_new_tokens");
  }
  for (const auto& [flag, address] :
       {std::pair{"listen", options.listen}, {"metrics_listen", options.metrics_listen}}) {
    if (absl::Status status = CheckAddress(flag, address); !status.ok()) return status;
  }
  if (absl::Status status = CheckDevice(options); !status.ok()) return status;
  if (absl::Status status = CheckSecurity(options); !status.ok()) return status;
  return options;
}

std::string HelpText() {
  std::string text =
      "lectern-server: answers questions over long documents, over gRPC.\n\n"
      "  lectern-server --model=smollm2=SmolLM2-135M-Instruct.Q4_1.gguf\n\n"
      "Flags (default in brackets):\n";
  for (const Flag& flag : Flags()) {
    std::string head = absl::StrCat("  --", flag.name);
    if (flag.value != nullptr) absl::StrAppend(&head, "=", flag.value);
    absl::StrAppend(&text, head, "\n      ", flag.help);
    if (*flag.fallback != 0) absl::StrAppend(&text, " [", flag.fallback, "]");
    text += "\n";
  }
  text +=
      "\nExit codes: 0 after a clean shutdown (SIGTERM or SIGINT; a second one exits at once with "
      "1),\n"
      "1 for other failures, 2 for bad flags, 3 for a model that cannot be loaded.\n";
  return text;
}

}  // namespace lectern
