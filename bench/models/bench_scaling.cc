// bench_scaling: what a token costs behind a document of n cached tokens, for growing n.
//
//   bench_scaling --model=FILE [--threads=2] [--lengths=1024,2048,...] [--budget=64] [--runs=3]
//
// One document is read to each length in turn (multiples of the page), by the page budget, since
// what fills the pages does not change what they cost to read. There, best of --runs, for each
// policy
//   default  top-128, first layer dense, tail = mean: all keys are scored
//   exact    dense
//   kept     top-128 without the tail: pages that cannot hold a kept key are left out, without loss
//   budget   the default with at most --budget pages per token and KV head, an approximation
// it prints a JSON line {"length", "policy", "decode_s", "first_token_s"}: seconds per decoded
// token, and to the first token of a question of 64 tokens. The model's window must hold the
// longest length; bench/scaling makes a copy of a model whose file says so.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "bench/models/bench_session.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

constexpr int kDecodeTokens = 32;
constexpr int kQuestionTokens = 64;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "bench_scaling: %s\n", message.c_str());
  std::exit(2);
}

struct Options {
  ModelLoadOptions model;
  std::vector<int64_t> lengths;
  int64_t budget = 64;
  int runs = 3;
};

Options ParseOptions(int argc, char** argv) {
  std::map<std::string, std::string> values = {{"--model", ""},
                                               {"--threads", "2"},
                                               {"--lengths", "1024,2048,4096,8192"},
                                               {"--budget", "64"},
                                               {"--runs", "3"}};
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const size_t equals = std::min(arg.find('='), arg.size());
    const auto found = values.find(arg.substr(0, equals));
    if (found == values.end() || equals == arg.size()) {
      Fail("unknown option " + arg + "; the head of bench/models/bench_scaling.cc lists them");
    }
    found->second = arg.substr(equals + 1);
  }
  Options options;
  options.model.name = "bench";
  options.model.path = values["--model"];
  options.model.threads = std::atoi(values["--threads"].c_str());
  options.budget = std::atoll(values["--budget"].c_str());
  options.runs = std::atoi(values["--runs"].c_str());
  std::istringstream lengths(values["--lengths"]);
  for (std::string length; std::getline(lengths, length, ',');) {
    options.lengths.push_back(std::atoll(length.c_str()));
  }
  std::sort(options.lengths.begin(), options.lengths.end());
  if (options.model.path.empty()) Fail("--model=FILE is required");
  if (options.model.threads < 1 || options.runs < 1 || options.budget < 1) {
    Fail("--threads, --runs and --budget must be positive");
  }
  return options;
}

class Bench {
 public:
  Bench(const Options& options, const Model& model)
      : options_(options),
        session_(model, options.lengths.back() + kQuestionTokens),
        ids_(PseudoRandomIds(options.lengths.back() + kQuestionTokens, model.info().vocabulary)) {
    AttentionPolicy kept = options.model.default_policy;
    kept.tail = AttentionPolicy::Tail::kNone;
    budget_ = options.model.default_policy;
    budget_.page_budget = options.budget;
    policies_ = {{"default", options.model.default_policy},
                 {"exact", AttentionPolicy::Exact()},
                 {"kept", kept},
                 {"budget", budget_}};
  }

  void Run() {
    int64_t read = 0;
    for (const int64_t length : options_.lengths) {
      session_.Read(std::span<const int32_t>(ids_).subspan(read, length - read), read, budget_);
      read = length;
      for (const auto& [name, policy] : policies_) Measure(length, name, policy);
    }
  }

 private:
  // What it writes behind the document is overwritten by what comes next.
  void Measure(int64_t length, const char* name, const AttentionPolicy& policy) {
    const auto question = std::span<const int32_t>(ids_).subspan(100, kQuestionTokens);
    double decode = 1e9, first_token = 1e9;
    for (int run = 0; run < options_.runs; ++run) {
      first_token =
          std::min(first_token, Seconds([&] { session_.Read(question, length, policy); }));
      const double seconds =
          Seconds([&] { session_.Decode(ids_[0], kDecodeTokens, length, policy); });
      decode = std::min(decode, seconds / kDecodeTokens);
    }
    std::printf(
        "{\"length\": %lld, \"policy\": \"%s\", \"decode_s\": %.6g, \"first_token_s\": %.6g}\n",
        static_cast<long long>(length), name, decode, first_token);
    std::fflush(stdout);
  }

  const Options& options_;
  BenchSession session_;
  const std::vector<int32_t> ids_;
  AttentionPolicy budget_;
  std::vector<std::pair<const char*, AttentionPolicy>> policies_;
};

int Main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  const absl::StatusOr<std::shared_ptr<const Model>> model = LoadModel(options.model);
  if (!model.ok()) Fail(model.status().ToString());
  const ModelInfo& info = (*model)->info();
  for (const int64_t length : options.lengths) {
    if (length < 1 || length % info.page_tokens != 0 ||
        length + kQuestionTokens > info.context_length) {
      Fail("--lengths: " + std::to_string(length) + " is not a multiple of " +
           std::to_string(info.page_tokens) + " within the window of " +
           std::to_string(info.context_length));
    }
  }
  Bench(options, **model).Run();
  return 0;
}

}  // namespace
}  // namespace lectern

int main(int argc, char** argv) { return lectern::Main(argc, argv); }
