// What the programs that time one model share: their common options, and the rows that they print.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "server/model/attention_policy.h"
#include "server/model/loading/model_loader.h"

namespace lectern {

// --model=PATH --threads=N --numerics=auto|blocks|int8|f32 --device=cuda --exact --top_k=K
// --dense_up_to=KEYS (0 if --top_k comes behind it) --ids=FILE --runs=N --median --only=ROW,ROW...
// --json
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

// Fails for what is no option or out of range. `policy` is what holds without --exact and --top_k.
BenchOptions ParseBenchOptions(int argc, char** argv, const AttentionPolicy& policy);

// The token ids of --ids, at least `least`; without it a fixed pseudo-random walk of `count`.
std::vector<int32_t> BenchIds(const BenchOptions& options, int64_t vocabulary, int64_t count,
                              size_t least);

double PeakResidentBytes();

class BenchRows {
 public:
  explicit BenchRows(const BenchOptions& options) : options_(options) {}

  bool Wanted(const std::string& name) const;
  void Add(const std::string& name, double value, const char* unit);
  // The best or median of --runs calls of `once`, which gives one run's figure; of fewer when they
  // have taken five seconds. Of seconds ("s") the least is the best.
  void Measure(const std::string& name, const char* unit, const std::function<double()>& once);
  // A table, or {"rows": [{"name", "value", "unit"}, ...]}.
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
