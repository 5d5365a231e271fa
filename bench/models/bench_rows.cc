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

BenchOptions ParseBenchOptions(int argc, char** argv, const AttentionPolicy& policy) {
  BenchOptions options;
  options.model.name = "bench";
  options.policy = policy;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const size_t equals = arg.find('=');
    const std::string key = arg.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : arg.substr(equals + 1);
    if (key == "--model") {
      options.model.path = value;
    } else if (key == "--threads") {
      options.model.threads = std::atoi(value.c_str());
    } else if (key == "--numerics" && ParseNumerics(value, options.model.numerics)) {
    } else if (arg == "--device=cuda") {
      auto device = Int8Device::OpenCuda(
          [](std::string_view code) { BenchFail("the device failed: " + std::string(code)); });
      if (!device.ok()) BenchFail(std::string(device.status().message()));
      options.model.device = *std::move(device);
    } else if (key == "--exact") {
      options.policy = AttentionPolicy::Exact();
    } else if (key == "--top_k") {
      options.policy.top_k = std::atoll(value.c_str());
      options.policy.dense_up_to = 0;
    } else if (key == "--dense_up_to") {
      options.policy.dense_up_to = std::atoll(value.c_str());
    } else if (key == "--ids") {
      options.ids_file = value;
    } else if (key == "--runs") {
      options.runs = std::atoi(value.c_str());
    } else if (key == "--only") {
      options.only = value;
    } else if (key == "--median") {
      options.median = true;
    } else if (key == "--json") {
      options.json = true;
    } else {
      BenchFail("unknown option " + arg + "; the head of the program's source lists them");
    }
  }
  if (options.model.path.empty()) BenchFail("--model=PATH is required");
  if (options.model.threads < 1 || options.runs < 1) {
    BenchFail("--threads and --runs must be positive");
  }
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
