// measure_layer: one configuration of the paper's benchmarks, in its own process. --help describes
// the output and the flags.
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/flags/flag_table.h"
#include "bench/paper/check_methods.h"
#include "bench/paper/process_memory.h"
#include "bench/paper/workload.h"

namespace lectern::bench {
namespace {

constexpr char kIntroduction[] =
    R"(measure_layer: one configuration of the paper's benchmarks, in its own process.

Prints one line of JSON: the best time of at most --repetitions runs and the peak of resident memory
beyond the inputs, the result included. A small run comes first, so that the start-up costs of the
libraries do not count.

A configuration that needs more than --memory_limit is not run and is reported as out of memory. The
limit is also set on the process, so that a need larger than predicted fails an allocation, which is
reported likewise. --check prints a line for each method compared.
)";
constexpr int64_t kLeftToOthers = 512 << 20;
constexpr double kGiB = 1 << 30;

struct Options {
  Experiment experiment = Experiment::kAttention;
  Method method = Method::kOurs;
  Shape shape{.threads = 2};
  int repetitions = 3;
  double seconds = 5;
  uint64_t memory_limit = 0;
  bool skip_prediction = false;
  bool check = false;
};

struct Measurement {
  double seconds = 0;
  int runs = 0;
  int64_t peak_bytes = 0;
  std::string measured_by;
};

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "measure_layer: %s\n", message.c_str());
  std::exit(2);
}

template <typename T>
std::vector<std::pair<std::string, T>> Named(std::span<const T> all) {
  std::vector<std::pair<std::string, T>> named;
  for (const T each : all) named.emplace_back(ToString(each), each);
  return named;
}

Options ParseOptions(int argc, char** argv) {
  constexpr int64_t kMost = int64_t{1} << 40;
  Options options;
  Shape& shape = options.shape;
  flags::Table table({.name = "measure_layer", .introduction = kIntroduction});
  table.Add({
      {"experiment", flags::Choice(&options.experiment, Named(AllExperiments())), "what to run"},
      {"method", flags::Choice(&options.method, Named(AllMethods())), "how to run it"},
      {"tokens", flags::Number(&shape.tokens, 1, kMost), "tokens; required unless --check", "none"},
      {"kept", flags::Number(&shape.kept, 1, kMost, "K"), "keys per query, or units per token"},
      {"chunk", flags::Number(&shape.chunk, 1, kMost, "C"),
       "queries (or tokens, for ffn) computed together"},
      {"layers", flags::Number(&shape.layers, 1, 1 << 20), "layers of the stack"},
      {"units", flags::Number(&shape.units, 1, kMost), "units of a feed-forward layer"},
      {"threads", flags::Number(&shape.threads, 1, 1024), "threads"},
      {"pages",
       flags::Choice<kernels::KvType>(
           &shape.pages, {{"f32", kernels::KvType::kF32}, {"i8", kernels::KvType::kI8}}),
       "type of the keys and values of Lectern's methods"},
      {"repetitions", flags::Number(&options.repetitions, 1, 1 << 20), "report the best of N runs"},
      {"seconds", flags::Real(&options.seconds, 1e-9, 1e9), "start no further run after this time"},
      {"memory_limit", flags::Bytes(&options.memory_limit), "memory for the run",
       "available memory less 512MiB"},
      {"skip_prediction", flags::Switch(&options.skip_prediction),
       "run even if the predicted memory exceeds --memory_limit, which is still enforced"},
      {"check", flags::Switch(&options.check), "compare all methods with each other instead"},
  });
  flags::ParseOrExit(table, argc, argv);
  if (!options.check && shape.tokens == 0) {
    flags::ExitWithUsageError(table, "--tokens: is required, as --tokens=N");
  }
  if (!Offers(options.experiment, options.method)) {
    flags::ExitWithUsageError(
        table, absl::StrCat("--method=", ToString(options.method), ": the experiment ",
                            ToString(options.experiment), " lacks it"));
  }
  if (options.memory_limit == 0) options.memory_limit = AvailableBytes() - kLeftToOthers;
  return options;
}

void WarmUp(const Options& options) {
  Shape small = options.shape;
  small.tokens = 128;
  small.kept = std::min<int64_t>(small.kept, 32);
  small.layers = 1;
  small.units = 512;
  MakeWorkload(options.experiment, options.method, small)->Run();
}

Measurement Measure(const Options& options) {
  const auto workload = MakeWorkload(options.experiment, options.method, options.shape);
  if (options.memory_limit > 0) LimitFurtherMemory(options.memory_limit);
  Measurement best;
  const PeakMemory memory;
  double total = 0;
  while (best.runs < options.repetitions && (best.runs == 0 || total < options.seconds)) {
    const auto start = std::chrono::steady_clock::now();
    workload->Run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    total += took.count();
    best.seconds = best.runs == 0 ? took.count() : std::min(best.seconds, took.count());
    ++best.runs;
  }
  best.peak_bytes = memory.Bytes();
  best.measured_by = memory.MeasuredBy();
  return best;
}

bool IsOutOfMemory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         std::strstr(error.what(), "DefaultCPUAllocator") != nullptr;
}

void PrintHead(const Options& options) {
  const Shape& s = options.shape;
  std::printf(
      "{\"experiment\": \"%s\", \"method\": \"%s\", \"tokens\": %lld, \"kept\": %lld, "
      "\"chunk\": %lld, \"layers\": %d, \"units\": %lld, \"threads\": %d, \"needed_bytes\": %lld, ",
      ToString(options.experiment), ToString(options.method), static_cast<long long>(s.tokens),
      static_cast<long long>(s.kept), static_cast<long long>(s.chunk), s.layers,
      static_cast<long long>(s.units), s.threads,
      static_cast<long long>(NeededBytes(options.experiment, options.method, s)));
}

int OutOfMemory(const Options& options, const char* how) {
  const double needed =
      static_cast<double>(NeededBytes(options.experiment, options.method, options.shape));
  PrintHead(options);
  std::printf("\"status\": \"out of memory\", \"message\": \"needs %.2f GiB of %.2f GiB (%s)\"}\n",
              needed / kGiB, static_cast<double>(options.memory_limit) / kGiB, how);
  return 0;
}

int MeasureOne(const Options& options) {
  const int64_t needed = NeededBytes(options.experiment, options.method, options.shape);
  if (!options.skip_prediction && needed > static_cast<int64_t>(options.memory_limit)) {
    return OutOfMemory(options, "predicted, not run");
  }
  try {
    WarmUp(options);
    const Measurement m = Measure(options);
    PrintHead(options);
    std::printf(
        "\"status\": \"ok\", \"seconds\": %.6g, \"runs\": %d, \"peak_bytes\": %lld, "
        "\"measured_by\": \"%s\"}\n",
        m.seconds, m.runs, static_cast<long long>(m.peak_bytes), m.measured_by.c_str());
  } catch (const std::exception& error) {
    if (IsOutOfMemory(error)) return OutOfMemory(options, "an allocation failed");
    Fail(error.what());
  }
  return 0;
}

int Check(int threads) {
  bool all_ok = true;
  for (const Agreement& a : CheckMethods(threads)) {
    std::printf(
        "{\"check\": \"%s\", \"method\": \"%s\", \"error_over_tolerance\": %.3g, \"rows\": %lld, "
        "\"ties\": %lld, \"ok\": %s}\n",
        ToString(a.experiment), ToString(a.method), a.largest_error, static_cast<long long>(a.rows),
        static_cast<long long>(a.ties), a.ok ? "true" : "false");
    all_ok &= a.ok;
  }
  return all_ok ? 0 : 1;
}

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  at::set_num_threads(options.shape.threads);
  return options.check ? Check(options.shape.threads) : MeasureOne(options);
}

}  // namespace
}  // namespace lectern::bench

int main(int argc, char** argv) { return lectern::bench::Main(argc, argv); }
