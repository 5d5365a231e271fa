// measure_layer: one configuration of the paper's benchmarks, in a process of its own.
//
//   measure_layer --experiment=attention|layers|ffn --tokens=N
//                 --method=plain|chunked|sdpa|naive_topk|ours|ours_dense
//                 [--kept=K] [--chunk=C] [--layers=12] [--units=3072] [--threads=2]
//                 [--repetitions=3] [--seconds=5] [--pages=f32|i8] [--memory_limit=BYTES]
//                 [--skip_prediction]
//   measure_layer --check [--threads=2]
//
// Prints one line of JSON: the best time of at most --repetitions runs (no further one is begun
// after --seconds) and the peak of resident memory beyond the inputs, the result included. A small
// run comes first, so that the libraries' own memory and start do not count.
//
// A configuration that needs more than --memory_limit (default: what the machine has available,
// less 512 MiB) is not run, and is reported as out of memory. The same limit is set on the process,
// so that a need larger than predicted fails an allocation, which is reported likewise;
// --skip_prediction relies on that alone. --check compares all methods (check_methods.h) and prints
// a line for each.
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "bench/paper/check_methods.h"
#include "bench/paper/process_memory.h"
#include "bench/paper/workload.h"

namespace lectern::bench {
namespace {

constexpr int64_t kLeftToOthers = 512 << 20;
constexpr double kGiB = 1 << 30;

struct Options {
  Experiment experiment = Experiment::kAttention;
  Method method = Method::kOurs;
  Shape shape{.threads = 2};
  int repetitions = 3;
  double seconds = 5;
  int64_t memory_limit = 0;
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

bool SetNumber(Options& options, const std::string& key, const std::string& value) {
  const double number = std::atof(value.c_str());
  const auto integer = static_cast<int64_t>(number);
  if (number <= 0) return false;
  if (key == "--tokens") {
    options.shape.tokens = integer;
  } else if (key == "--kept") {
    options.shape.kept = integer;
  } else if (key == "--chunk") {
    options.shape.chunk = integer;
  } else if (key == "--layers") {
    options.shape.layers = static_cast<int>(integer);
  } else if (key == "--units") {
    options.shape.units = integer;
  } else if (key == "--threads") {
    options.shape.threads = static_cast<int>(integer);
  } else if (key == "--repetitions") {
    options.repetitions = static_cast<int>(integer);
  } else if (key == "--seconds") {
    options.seconds = number;
  } else if (key == "--memory_limit") {
    options.memory_limit = integer;
  } else {
    return false;
  }
  return true;
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const size_t equals = arg.find('=');
    const std::string key = arg.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : arg.substr(equals + 1);
    bool known = true;
    if (key == "--experiment") {
      known = ParseExperiment(value, options.experiment);
    } else if (key == "--method") {
      known = ParseMethod(value, options.method);
    } else if (key == "--pages") {
      known = value == "f32" || value == "i8";
      options.shape.pages = value == "i8" ? kernels::KvType::kI8 : kernels::KvType::kF32;
    } else if (arg == "--skip_prediction") {
      options.skip_prediction = true;
    } else if (arg == "--check") {
      options.check = true;
    } else {
      known = SetNumber(options, key, value);
    }
    if (!known) Fail("cannot use " + arg + "; the head of bench/paper/measure_layer.cc lists all");
  }
  if (!options.check && options.shape.tokens == 0) Fail("--tokens is required");
  if (!Offers(options.experiment, options.method)) Fail("the experiment lacks this method");
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
  if (!options.skip_prediction && needed > options.memory_limit) {
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
