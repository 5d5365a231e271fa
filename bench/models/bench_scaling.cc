// bench_scaling: measures the cost of a token after n cached tokens of a document, for growing n.
// --help describes the rows and flags.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "base/flags/flag_table.h"
#include "bench/models/bench_session.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

constexpr char kIntroduction[] =
    R"(bench_scaling: measures the cost of a token after n cached tokens of a document, for growing n.

One document is extended to each length in turn, under the policy `budget`: the contents of the pages
do not change the cost of reading them. At each length it prints one JSON line {"length", "policy",
"decode_s", "first_token_s"} for each policy: seconds per decoded token, and to the first token of a
64-token question.
  default  top-128, first layer dense, tail = mean: scores all keys
  exact    dense attention
  kept     top-128 without the tail: skips pages that cannot hold a kept key, without loss
  budget   default with at most --budget pages per token and KV head: an approximation
)";
constexpr int kDecodeTokens = 32;
constexpr int kQuestionTokens = 64;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "bench_scaling: %s\n", message.c_str());
  std::exit(2);
}

struct Options {
  ModelLoadOptions model;
  std::vector<int64_t> lengths = {1024, 2048, 4096, 8192};
  int64_t budget = 64;
  int runs = 3;
};

Options ParseOptions(int argc, char** argv) {
  Options options{.model = {.name = "bench"}};
  flags::Table table({.name = "bench_scaling", .introduction = kIntroduction});
  table.Add({
      {"model", flags::Required(flags::Text(&options.model.path, "FILE")),
       "a model whose context length holds the longest length; bench/scaling makes one"},
      {"threads", flags::Number(&options.model.threads, 1, 1024), "threads per model step"},
      {"lengths", flags::Integers(&options.lengths, 1, 1 << 30),
       "document lengths in tokens, multiples of the page"},
      {"budget", flags::Number(&options.budget, 1, 1 << 20),
       "pages per token and KV head of the policy `budget`"},
      {"runs", flags::Number(&options.runs, 1, 1'000'000), "report the best of this many runs"},
  });
  flags::ParseOrExit(table, argc, argv);
  if (options.lengths.empty()) flags::ExitWithUsageError(table, "--lengths: must not be empty");
  std::sort(options.lengths.begin(), options.lengths.end());
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
  // The next question overwrites the pages that this one writes after the document.
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
