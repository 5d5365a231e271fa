#include "bench/serving/options.h"

#include "base/flags/flag_table.h"

namespace lectern::bench {
namespace {

constexpr double kMaxSeconds = 1e6;
constexpr int kMost = 1'000'000;

constexpr char kIntroduction[] =
    R"(load_client: runs one phase of load on a running server and prints one JSON object. bench/load
runs the phases and judges them.

Arrivals are drawn from a fixed seed: plain questions about documents uploaded before, uploads,
questions that are cancelled, readers that are slow, and processes that crash during an answer.
)";

flags::Table FlagsOf(LoadOptions& o) {
  flags::Table table({.name = "load_client", .introduction = kIntroduction});
  table.Add({
      {"server", flags::Required(flags::Text(&o.server, "HOST:PORT")), "the server"},
      {"seconds", flags::Real(&o.seconds, 0, kMaxSeconds), "duration of the arrivals"},
      {"warmup", flags::Real(&o.warmup, 0, kMaxSeconds), "seconds at the start that do not count"},
      {"rate", flags::Real(&o.rate, 0, 1e6), "arrivals per second, open loop (Poisson)"},
      {"clients", flags::Number(&o.clients, 0, kMost),
       "closed loop instead: this many callers, each making one call after another"},
      {"probe", flags::Real(&o.probe, 0, kMaxSeconds),
       "seconds of single plain questions after the last arrival"},
      {"deadline", flags::Real(&o.deadline, 0, kMaxSeconds), "deadline of each call, in seconds"},
      {"seed", flags::Number(&o.seed, 0, UINT64_MAX), "seed of the arrivals"},
      {"uploads", flags::Real(&o.uploads, 0, 1, "SHARE"), "share of uploads among the arrivals"},
      {"cancels", flags::Real(&o.cancels, 0, 1, "SHARE"), "share of cancelled questions"},
      {"slow_readers", flags::Real(&o.slow_readers, 0, 1, "SHARE"), "share of slow readers"},
      {"crashes", flags::Real(&o.crashes, 0, 1, "SHARE"), "share of crashing clients"},
      {"documents", flags::Number(&o.documents, 0, kMost),
       "documents that questions are asked about; they are pinned"},
      {"document_tokens", flags::Number(&o.document_tokens, 0, kMost * 1000),
       "approximate length of those documents"},
      {"upload_tokens", flags::Number(&o.upload_tokens, 0, kMost * 1000),
       "approximate length of the uploads"},
      {"max_new_tokens", flags::Number(&o.max_new_tokens, 0, kMost), "longest answer, in tokens"},
      {"temperature", flags::Real(&o.temperature, 0, 2), "sampling temperature"},
      {"connections", flags::Number(&o.connections, 1, kMost), "connections to the server"},
      {"leak", flags::Real(&o.leak, 0, 1e6),
       "instead of a load: open this many AskMany streams per second and close none"},
      {"crash_with", flags::Text(&o.crash_with, "DOCUMENT"),
       "instead of a load: ask one question about this document, then crash"},
  });
  return table;
}

}  // namespace

absl::StatusOr<LoadOptions> ParseLoadOptions(const std::vector<std::string>& arguments) {
  LoadOptions options;
  const auto parsed = FlagsOf(options).Parse(arguments);
  if (!parsed.ok()) return parsed.status();
  options.help = parsed->help;
  const bool has_load = options.rate > 0 || options.clients > 0;
  if (options.help || has_load || options.leak > 0 || !options.crash_with.empty()) return options;
  return absl::InvalidArgumentError("--rate=X or --clients=N is required");
}

std::string LoadHelpText() {
  LoadOptions defaults;
  return FlagsOf(defaults).Help();
}

}  // namespace lectern::bench
