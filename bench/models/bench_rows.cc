#include "bench/models/bench_rows.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "bench/models/bench_session.h"
#include "server/model/device/int8_device.h"

namespace lectern {
namespace {

constexpr double kRowSeconds = 5;

}  // namespace

void BenchFail(const std::string& message) {
  std::fprintf(stderr, "bench: %s\n", message.c_str());
  std::exit(2);
}

BenchOptions ParseBenchOptions(flags::Program program, const AttentionPolicy& policy, int argc,
                               char** argv) {
  BenchOptions options{.model = {.name = "bench"}, .policy = policy};
  bool cuda = false;
  flags::Table table(std::move(program));
  table.Add({
      {"model", flags::Required(flags::Text(&options.model.path, "PATH")),
       "a .gguf file, or a folder with config.json and safetensors files"},
      {"threads", flags::Number(&options.model.threads, 1, 1024), "threads per model step"},
      {"numerics", flags::Choice(&options.model.numerics, NumericsWords()),
       "number format of the weights"},
      {"device", flags::Choice<bool>(&cuda, {{"cpu", false}, {"cuda", true}}),
       "processor of the int8 matrix products"},
      {"exact", flags::SwitchTo([&options] { options.policy = AttentionPolicy::Exact(); }),
       "dense attention"},
      {"top_k",
       flags::NumberTo<int64_t>(
           [&options](int64_t k) {
             options.policy.top_k = k;
             options.policy.dense_up_to = 0;
           },
           0, kMaxTopK, "K"),
       "keys each query attends to; also sets --dense_up_to=0"},
      {"dense_up_to", flags::Number(&options.policy.dense_up_to, 0, kMaxTopK, "KEYS"),
       "queries with at most this many visible keys use dense attention; follows --top_k"},
      {"ids", flags::Text(&options.ids_file, "FILE"),
       "token ids of the prompt, separated by white space, so that peers read the same prompt",
       "a fixed pseudo-random walk over the vocabulary"},
      {"runs", flags::Number(&options.runs, 1, 1'000'000),
       "repetitions of each row, fewer once they have taken five seconds"},
      {"median", flags::Switch(&options.median), "report the median run instead of the best"},
      {"only", flags::Text(&options.only, "ROW,ROW,..."), "measure only these rows", "all"},
      {"json", flags::Switch(&options.json), "print one JSON object instead of a table"},
  });
  flags::ParseOrExit(table, argc, argv);
  if (!cuda) return options;
  auto device = Int8Device::OpenCuda(
      [](std::string_view code) { BenchFail("the device failed: " + std::string(code)); });
  if (!device.ok()) BenchFail(std::string(device.status().message()));
  options.model.device = *std::move(device);
  return options;
}

std::vector<int32_t> BenchIds(const BenchOptions& options, int64_t vocabulary, int64_t count,
                              size_t least) {
  if (options.ids_file.empty()) return PseudoRandomIds(count, vocabulary);
  std::vector<int32_t> ids;
  std::ifstream file(options.ids_file);
  for (int32_t id; file >> id;) ids.push_back(id);
  if (ids.size() < least) BenchFail("too few token ids in " + options.ids_file);
  return ids;
}

double PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

bool BenchRows::Wanted(const std::string& name) const {
  return options_.only.empty() ||
         ("," + options_.only + ",").find("," + name + ",") != std::string::npos;
}

void BenchRows::Add(const std::string& name, double value, const char* unit) {
  rows_.push_back({name, value, unit});
}

void BenchRows::Measure(const std::string& name, const char* unit,
                        const std::function<double()>& once) {
  std::vector<double> values;
  double spent = 0;
  while (std::ssize(values) < options_.runs && spent < kRowSeconds) {
    spent += Seconds([&] { values.push_back(once()); });
  }
  std::sort(values.begin(), values.end());
  const bool smaller_is_better = std::strcmp(unit, "s") == 0;
  const double best = smaller_is_better ? values.front() : values.back();
  Add(name, options_.median ? values[values.size() / 2] : best, unit);
}

void BenchRows::Print() const {
  if (!options_.json) {
    for (const Row& row : rows_) {
      std::printf("%-16s %14.3f %s\n", row.name.c_str(), row.value, row.unit);
    }
    return;
  }
  std::printf("{\"rows\": [");
  for (size_t i = 0; i < rows_.size(); ++i) {
    std::printf("%s{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}", i == 0 ? "" : ", ",
                rows_[i].name.c_str(), rows_[i].value, rows_[i].unit);
  }
  std::printf("]}\n");
}

}  // namespace lectern
