// Common options of the programs that time one model, and the rows that they print.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/flags/flag_table.h"
#include "server/model/attention_policy.h"
#include "server/model/loading/model_loader.h"

namespace lectern {

// Set by the flags of ParseBenchOptions().
struct BenchOptions {
  ModelLoadOptions model;
  AttentionPolicy policy;
  std::string ids_file;
  std::string only;
  int runs = 3;
  bool median = false;
  bool json = false;
};

// Ends the program with status 2.
[[noreturn]] void BenchFail(const std::string& message);

// Reads the flags that all programs have; `program` gives their name and introduction for --help.
// `policy` is the default of --exact, --top_k and --dense_up_to. Ends the program after --help, and
// with status 2 for wrong flags.
BenchOptions ParseBenchOptions(flags::Program program, const AttentionPolicy& policy, int argc,
                               char** argv);

// Returns the token ids of --ids, at least `least`; without it a fixed pseudo-random walk of
// `count`.
std::vector<int32_t> BenchIds(const BenchOptions& options, int64_t vocabulary, int64_t count,
                              size_t least);

double PeakResidentBytes();

class BenchRows {
 public:
  explicit BenchRows(const BenchOptions& options) : options_(options) {}

  bool Wanted(const std::string& name) const;
  void Add(const std::string& name, double value, const char* unit);
  // Records the best or median of --runs calls of `once`, which returns the figure of one run.
  // Stops early when the runs have taken five seconds. For seconds ("s") the smallest is the best.
  void Measure(const std::string& name, const char* unit, const std::function<double()>& once);
  // Prints a table, or {"rows": [{"name", "value", "unit"}, ...]}.
  void Print() const;

 private:
  struct Row {
    std::string name;
    double value;
    const char* unit;
  };

  const BenchOptions& options_;
  std::vector<Row> rows_;
};

}  // namespace lectern
